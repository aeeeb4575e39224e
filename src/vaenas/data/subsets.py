"""Rows of a data set that one purpose may use: stratified splits, the test part."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int64
from torch import Generator, Tensor

from vaenas.data.decode import Batch, Transform
from vaenas.data.images import ImageData, Images
from vaenas.errors import UserError

EVALUATION_BATCH = 256
TEST_SHARE, TEST_SEED = 0.1, 0  # of the training images, where a source has no test part


@dataclass(frozen=True)
class Subset:
    """The rows of an image set that one purpose may use."""

    data: Images
    rows: Int64[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> Int64[Tensor, " n"]:
        return self.data.labels[self.rows]

    def batch(self, indices: Int64[Tensor, " b"]) -> Batch:
        return self.data.batch(self.rows[indices])

    def stream(self, chunks: Sequence[Int64[Tensor, " _"]], transform: Transform | None, seed: int) -> Iterator[Batch]:
        return self.data.stream([self.rows[chunk] for chunk in chunks], transform, seed)

    def batches(self, n: int, size: int = EVALUATION_BATCH) -> list[Batch]:
        """The first n rows in batches of nearly equal size, at most `size`."""
        return [self.batch(part) for part in torch.arange(n).chunk(-(-n // size))] if n else []


def train_and_test(data: ImageData) -> tuple[Subset, Subset, dict[str, Any] | None]:
    """What may train or rank, what tests alone, and how they were split where the source has no test part.

    Then a stratified tenth of the training images is the test part, the same for every search, training and
    evaluation of these images; the record tells it from another.
    """
    if data.test is not None:
        train, test = (Subset(part, torch.arange(len(part))) for part in (data.train, data.test))
        return train, test, None
    labels = data.train.labels
    n = min(max(1, round(TEST_SHARE * len(labels))), len(labels) - len(labels.unique()))
    rows, held_out = split(labels, n, Generator().manual_seed(TEST_SEED))
    digest = hashlib.sha256(held_out.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
    per_class = labels[held_out].bincount(minlength=len(data.train.classes)).tolist()
    record = {"share": TEST_SHARE, "seed": TEST_SEED, "images": n, "per_class": per_class, "sha256": digest}
    return Subset(data.train, rows), Subset(data.train, held_out), record


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
        said = f"choose from 0 to {limit}, so that each class keeps one"
        raise UserError(f"cannot hold out {holdout} of {len(labels)} images: {said}")
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
