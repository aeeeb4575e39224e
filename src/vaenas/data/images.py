"""What a data set is: labelled uint8 images, in memory or in files, and what is said of them."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor, nn

from vaenas.data.decode import Batch, Decoded, Decoder, Findings, Transform, in_threads, process_pool
from vaenas.errors import UserError

_CHUNK_BYTES = 2**24
_CHUNK_ROWS = 4096


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Square images with labels.

    `images`: uint8 in [0, 255]; may be memory-mapped and strided.
    `labels`: one class index in [0, len(classes)) per row.
    `classes`: the names of the classes.
    """

    images: UInt8[Tensor, "n c h w"]
    labels: Int64[Tensor, " n"]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def channels(self) -> int:
        return self.images.shape[1]

    @property
    def image_size(self) -> int:
        """Height in pixels, equal to the width."""
        return self.images.shape[2]

    def batch(self, indices: Int64[Tensor, " b"]) -> Batch:
        """A copy of the rows."""
        return self.images[indices].contiguous(), self.labels[indices]

    def stream(self, chunks: Sequence[Int64[Tensor, " _"]], transform: Transform | None, seed: int) -> Iterator[Batch]:
        """A batch for each of `chunks`, its images transformed one by one; `seed` has no effect."""
        for images, labels in map(self.batch, chunks):
            # torchvision draws one set of numbers a call: a call for each image
            yield images if transform is None else torch.stack([transform(image) for image in images]), labels


class _Rows(NamedTuple):
    """What a worker decodes, by row."""

    paths: tuple[Path, ...]
    decoder: Decoder

    def __getitem__(self, row: Any) -> Any:
        return self.decoder(self.paths[row], (row,))


@dataclass(frozen=True, eq=False)
class FileSet:
    """As `ImageSet`, but decoded batch by batch: folders that no cache can hold, ImageNet at 224 pixels.

    `root`: the source's folder, which what is found names its files relative to.
    `workers`: threads that decode for `batch` (0: one a core, at most 8), processes that decode for `stream`.
    `skip_bad_images`: what can't be decoded is left out of its batch, instead of ending the run.
    """

    paths: tuple[Path, ...]
    labels: Int64[Tensor, " n"]
    classes: tuple[str, ...]
    image_size: int
    root: Path
    workers: int
    skip_bad_images: bool
    findings: Findings
    channels: int = 3

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Int64[Tensor, " b"]) -> Batch:
        """The rows' largest centred squares; of bad images fewer, or a `UserError` that names one."""
        return self._batch(self.decoded(indices), indices)

    def stream(self, chunks: Sequence[Int64[Tensor, " _"]], transform: Transform | None, seed: int) -> Iterator[Batch]:
        """One batch for each of `chunks`, decoded ahead by processes; a bad image's place is taken by a good one.

        Without `transform` it is the largest centred square. `seed` and the row give its random numbers, whatever the
        worker and the batch. Raises `UserError` that names an image that cannot be decoded.
        """
        decoder = Decoder(self.image_size, self.findings.background, transform, seed)
        rows = [chunk.tolist() for chunk in chunks]
        loader = process_pool(_Rows(self.paths, decoder), self.workers, batch_sampler=rows)
        for chunk, items in zip(chunks, loader, strict=True):
            pixels, labels = self._batch(self._good(chunk, items), chunk)
            places = torch.arange(len(chunk)) % len(labels)
            yield pixels[places], labels[places]

    def decoded(self, indices: Int64[Tensor, " b"]) -> Iterator[tuple[int, UInt8[Tensor, "c h w"]]]:
        """Those of the rows that can be decoded, perhaps none, and their largest centred squares."""
        decoder = Decoder(self.image_size, self.findings.background)
        decode = _Rows(self.paths, decoder).__getitem__
        return self._good(indices, in_threads(decode, indices.tolist(), self.workers))

    def name(self, row: int) -> str:
        """The path relative to the source, whatever bytes are in it."""
        return str(self.paths[row].relative_to(self.root)).encode(errors="backslashreplace").decode()

    def _good(
        self, indices: Int64[Tensor, " b"], items: Iterable[Decoded]
    ) -> Iterator[tuple[int, UInt8[Tensor, "c h w"]]]:
        for row, item in zip(indices.tolist(), items, strict=True):
            if item.pixels is not None:
                if item.transparent:
                    self.findings.add_transparent(self.name(row), say=self.workers > 0)
                yield row, item.pixels
            elif self.skip_bad_images:
                self.findings.skipped.add(self.name(row))
            else:
                reason = f"cannot read the image: {item.reason}"
                raise UserError(f"{self.paths[row]}: {reason}; replace it, or use --skip-bad-images")

    def _batch(self, good: Iterator[tuple[int, UInt8[Tensor, "c h w"]]], indices: Int64[Tensor, " b"]) -> Batch:
        found = [*good]
        if not found:
            raise UserError(f"{self.paths[int(indices[0])]}: no image of a whole batch can be read; replace them")
        rows, pixels = zip(*found, strict=True)
        return torch.stack(pixels), self.labels[[*rows]]


Images = ImageSet | FileSet


@dataclass(frozen=True, eq=False)
class ImageData:
    """A data set as it was loaded.

    `name`: "builtin", "cifar10" or the folder's name.
    `test`: never touched by a search; None where the source has none.
    `mean`, `std`: per channel, of the training pixels scaled to [0, 1].
    `content`: a digest of the pixels; of files that no cache holds, they are read for it, once.
    """

    name: str
    train: Images
    test: Images | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    content: Callable[[], str]
    findings: Findings = field(default_factory=Findings)

    @property
    def skipped(self) -> tuple[str, ...]:
        """Files that could not be decoded so far, as paths relative to the source."""
        return tuple(sorted(self.findings.skipped))

    @property
    def notes(self) -> tuple[str, ...]:
        """What else the user should know so far, a line each."""
        return self.findings.notes

    def fingerprint(self) -> str:
        """Changes with any pixel, label, or class, and their order."""
        facts: list[Any] = [self.mean, self.std, self.content()]
        for part in (self.train, self.test):
            if part is not None:
                labels = hashlib.sha256(part.labels.numpy().tobytes()).hexdigest()
                facts.append([part.classes, part.image_size, labels])
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def smaller(data: ImageData, size: int) -> ImageData:
    """The same images with `size` pixels a side, in memory: each pixel the mean of the area that it covers."""

    def shrunk(images: Images) -> ImageSet:
        pixels = torch.empty(len(images), images.channels, size, size, dtype=torch.uint8)
        for rows in torch.arange(len(images)).split(_CHUNK_ROWS):
            whole = images.batch(rows)[0].float()
            pixels[rows] = nn.functional.interpolate(whole, size=(size, size), mode="area").round().to(torch.uint8)
        return ImageSet(pixels, images.labels, images.classes)

    train = shrunk(data.train)
    mean, std = pixel_statistics(train.images)
    return replace(data, train=train, test=data.test and shrunk(data.test), mean=mean, std=std)


def pixel_statistics(images: UInt8[Tensor, "n c h w"]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of pixels scaled to [0, 1], read in chunks.

    The deviation is at least 1/255, so that images of one colour can be normalised too.
    """
    counts = torch.zeros(images.shape[1], 256, dtype=torch.int64)
    for chunk in images.split(max(1, _CHUNK_BYTES // images[0].numel())):
        counts += torch.stack([plane.flatten().bincount(minlength=256) for plane in chunk.unbind(1)])
    levels = torch.arange(256, dtype=torch.float64) / 255
    weights = counts / counts.sum(1, keepdim=True, dtype=torch.float64)
    mean = weights @ levels
    variance = (weights * (levels - mean[:, None]) ** 2).sum(1)
    return tuple(mean.tolist()), tuple(variance.sqrt().clamp(min=1 / 255).tolist())
