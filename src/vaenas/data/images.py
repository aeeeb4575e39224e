"""What a data set is: labelled uint8 images, in memory or in files, and what is said of them."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor, nn

from vaenas.data.decode import Batch, Findings, Transform
from vaenas.data.files import FileSet

_CHUNK_BYTES = 2**24
_CHUNK_ROWS = 4096


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Square images with labels.

    `images`: uint8 in [0, 255]; may be memory-mapped and strided.
    `labels`: one class index in [0, len(classes)) per row.
    `classes`: the names of the classes.
    """

    images: UInt8[Tensor, "_ c h w"]
    labels: Int64[Tensor, " n"]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise ValueError(f"{len(self.images)} images but {len(self.labels)} labels")

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
        """Copy the rows `indices`, each in [0, len(self)); raises `IndexError` for a row that does not exist."""
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < len(self):
            raise IndexError(f"rows {int(indices.min())} to {int(indices.max())} of a set of {len(self)}")
        return self.images[indices].contiguous(), self.labels[indices]

    def stream(self, chunks: Sequence[Int64[Tensor, " _"]], transform: Transform | None, seed: int) -> Iterator[Batch]:
        """A batch for each of `chunks`, its images transformed one by one; `seed` has no effect."""
        for images, labels in map(self.batch, chunks):
            # torchvision draws one set of numbers a call: a call for each image
            yield images if transform is None else torch.stack([transform(image) for image in images]), labels


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
    train, test = _smaller(data.train, size), data.test and _smaller(data.test, size)
    mean, std = pixel_statistics(train.images)
    return replace(data, train=train, test=test, mean=mean, std=std)


def _smaller(images: Images, size: int) -> ImageSet:
    pixels = torch.empty(len(images), images.channels, size, size, dtype=torch.uint8)
    for rows in torch.arange(len(images)).split(_CHUNK_ROWS):
        whole = images.batch(rows)[0].float()
        pixels[rows] = nn.functional.interpolate(whole, size=(size, size), mode="area").round().to(torch.uint8)
    return ImageSet(pixels, images.labels, images.classes)


def pixel_statistics(images: UInt8[Tensor, "n c h w"]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of pixels scaled to [0, 1], read in chunks.

    The deviation is at least 1/255, so that images of one colour can be normalised too.
    """
    counts = torch.zeros(images.shape[1], 256, dtype=torch.int64)
    rows = max(1, _CHUNK_BYTES // images[0].numel())
    for chunk in images.split(rows):
        for c in range(images.shape[1]):
            counts[c] += chunk[:, c].flatten().bincount(minlength=256)
    levels = torch.arange(256, dtype=torch.float64) / 255
    weights = counts / counts.sum(1, keepdim=True, dtype=torch.float64)
    mean = weights @ levels
    variance = (weights * (levels - mean[:, None]) ** 2).sum(1)
    std = variance.sqrt().clamp(min=1 / 255)
    return tuple(mean.tolist()), tuple(std.tolist())
