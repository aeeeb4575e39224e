"""What a data set is: labelled uint8 images in one or more parts, and how to split its rows."""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int64, UInt8
from torch import Generator, Tensor, nn

from vaenas.errors import UserError

_CHUNK_BYTES = 2**24
_CHUNK_ROWS = 4096


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Square images with labels.

    `parts`: uint8 images in [0, 255], concatenated in this order; each may be memory-mapped and strided.
    `labels`: one class index in [0, len(classes)) per row.
    `classes`: the names of the classes.
    """

    parts: tuple[UInt8[Tensor, "_ c h w"], ...]
    labels: Int64[Tensor, " n"]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        rows = sum(len(part) for part in self.parts)
        if rows != len(self.labels):
            raise ValueError(f"{rows} images but {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def channels(self) -> int:
        return self.parts[0].shape[1]

    @property
    def image_size(self) -> int:
        """Height in pixels, equal to the width."""
        return self.parts[0].shape[2]

    def batch(self, indices: Int64[Tensor, " b"]) -> tuple[UInt8[Tensor, "b c h w"], Int64[Tensor, " b"]]:
        """Copy the rows `indices`, each in [0, len(self)), in the order given.

        Raises `IndexError` for a row that does not exist.
        """
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < len(self):
            raise IndexError(f"rows {int(indices.min())} to {int(indices.max())} of a set of {len(self)}")
        images = self.parts[0].new_empty((len(indices), *self.parts[0].shape[1:]))
        ends = torch.tensor([len(part) for part in self.parts]).cumsum(0)
        part_of = torch.bucketize(indices, ends, right=True)
        for p, part in enumerate(self.parts):
            places = (part_of == p).nonzero().flatten()
            images[places] = part[indices[places] - (ends[p] - len(part))]
        return images, self.labels[indices]


@runtime_checkable
class Images(Protocol):
    """Labelled square images, in memory (`ImageSet`) or in files (`FileSet`)."""

    @property
    def labels(self) -> Int64[Tensor, " n"]: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def channels(self) -> int: ...
    @property
    def image_size(self) -> int: ...
    def __len__(self) -> int: ...
    def batch(self, indices: Int64[Tensor, " b"]) -> tuple[UInt8[Tensor, "_ c h w"], Int64[Tensor, " _"]]: ...


@dataclass(frozen=True, eq=False)
class ImageData:
    """A data set as it was loaded.

    `name`: "builtin", "cifar10" or the folder's name.
    `test`: never touched by a search; None where the source has none.
    `mean`, `std`: per channel, of the training pixels scaled to [0, 1].
    `skipped`: unreadable files that were left out, as paths relative to the source folder.
    `notes`: what else the user should know of them, a line each.
    `content`: changes with any pixel; empty where the images stay in files that tell it themselves (`FileSet.content`).
    """

    name: str
    train: Images
    test: Images | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    content: str = ""


def split(
    labels: Int64[Tensor, " n"], holdout: int, rng: Generator
) -> tuple[Int64[Tensor, " n-{holdout}"], Int64[Tensor, " {holdout}"]]:
    """Split rows at random, stratified by class: the rows that stay, and exactly `holdout` rows held out.

    Both are sorted. A class of m rows gives holdout·m/n of them, rounded up or down, and always keeps one.
    Raises `UserError` unless 0 <= holdout <= n - (number of classes among `labels`).
    """
    counts = labels.bincount()
    limit = len(labels) - int((counts > 0).sum())
    if not 0 <= holdout <= limit:
        message = (
            f"cannot hold out {holdout} of {len(labels)} images: choose from 0 to {limit}, so that each class keeps one"
        )
        raise UserError(message)
    order = torch.randperm(len(labels), generator=rng)
    by_class = order[labels[order].argsort(stable=True)]
    count = counts[labels[by_class]]
    rank = torch.arange(len(labels)) - (counts.cumsum(0) - counts)[labels[by_class]]  # random, in [0, count)
    # Taking rows by their rank's share of the class takes from all classes evenly; a class's last row goes last.
    share = torch.where(rank == count - 1, torch.inf, (rank + 0.5) / count)
    # Ties between classes are broken at random, not in favour of the first class.
    shuffle = torch.randperm(len(labels), generator=rng)
    taken = by_class[shuffle[share[shuffle].argsort(stable=True)]]
    return taken[holdout:].sort().values, taken[:holdout].sort().values


def smaller(data: ImageData, size: int) -> ImageData:
    """The same images with `size` pixels a side, in memory: each pixel the mean of the area that it covers."""
    train, test = _smaller(data.train, size), data.test and _smaller(data.test, size)
    mean, std = pixel_statistics(train.parts[0])
    return replace(data, train=train, test=test, mean=mean, std=std)


def _smaller(images: Images, size: int) -> ImageSet:
    pixels = torch.empty(len(images), images.channels, size, size, dtype=torch.uint8)
    for rows in torch.arange(len(images)).split(_CHUNK_ROWS):
        whole = images.batch(rows)[0].float()
        pixels[rows] = nn.functional.interpolate(whole, size=(size, size), mode="area").round().to(torch.uint8)
    return ImageSet((pixels,), images.labels, images.classes)


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
