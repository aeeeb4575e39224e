"""The images of a run: loaded by its settings, in parts that purposes share, known again when it resumes."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Generator

from vaenas.data.files import FileSet, Transform
from vaenas.data.folder import Background, transparency
from vaenas.data.images import ImageData, Images, split
from vaenas.data.load import load
from vaenas.data.shards import ShardSet
from vaenas.evaluation.supernet import Batch

EVALUATION_BATCH = 256
TEST_SHARE, TEST_SEED = 0.1, 0  # of the training images, where a source has no test part


@dataclass(frozen=True)
class Subset:
    """The rows of an image set that one purpose may use."""

    data: Images
    rows: torch.Tensor

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> torch.Tensor:
        return self.data.labels[self.rows]

    def batch(self, indices: torch.Tensor) -> Batch:
        return self.data.batch(self.rows[indices])

    def stream(self, chunks: Sequence[torch.Tensor], transform: Transform | None, seed: int) -> Iterator[Batch]:
        """One batch for each of `chunks`; files are decoded ahead, by `transform` with `seed` for them alone."""
        rows = [self.rows[chunk] for chunk in chunks]
        if isinstance(self.data, FileSet):
            return self.data.stream(rows, transform, seed)
        return map(self.data.batch, rows)

    def batches(self, n: int, size: int = EVALUATION_BATCH) -> list[Batch]:
        """The first n rows in batches of nearly equal size, at most `size`."""
        return [self.batch(part) for part in torch.arange(n).chunk(-(-n // size))] if n else []


@runtime_checkable
class DataSettings(Protocol):
    """The settings that say which images."""

    @property
    def data(self) -> str: ...
    @property
    def data_root(self) -> str | None: ...
    @property
    def image_size(self) -> int | None: ...
    @property
    def download(self) -> bool: ...
    @property
    def skip_bad_images(self) -> bool: ...
    @property
    def workers(self) -> int: ...
    @property
    def background(self) -> Background: ...


def load_data(config: DataSettings) -> ImageData:
    """The images that the settings name."""
    root = Path(config.data_root) if config.data_root else None
    return load(
        config.data, root, config.image_size, config.download, config.skip_bad_images, None, config.workers,
        config.background,
    )  # fmt: skip


def train_and_test(data: ImageData) -> tuple[Subset, Subset, dict[str, Any] | None]:
    """What may train or rank, what tests alone, and how they were split where the source has no test part.

    Then a stratified tenth of the training images is the test part, the same for every search, training and
    evaluation of these images; the record tells it from another.
    """
    everything = torch.arange(len(data.train))
    if data.test is not None:
        return Subset(data.train, everything), Subset(data.test, torch.arange(len(data.test))), None
    labels = data.train.labels
    n = min(max(1, round(TEST_SHARE * len(labels))), len(labels) - len(labels.unique()))
    rows, held_out = split(labels, n, Generator().manual_seed(TEST_SEED))
    digest = hashlib.sha256(held_out.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
    per_class = labels[held_out].bincount(minlength=len(data.train.classes)).tolist()
    record = {"share": TEST_SHARE, "seed": TEST_SEED, "images": n, "per_class": per_class, "sha256": digest}
    return Subset(data.train, rows), Subset(data.train, held_out), record


def skipped(data: ImageData) -> list[str]:
    """Files that could not be read, so far."""
    met = [part.skipped for part in (data.train, data.test) if isinstance(part, FileSet)]
    return [*data.skipped, *sorted(set().union(*met))]


def notes(data: ImageData, shards: ShardSet | None = None) -> list[str]:
    """What the user should know of the images, so far."""
    streamed = [part for part in (data.train, data.test, shards) if isinstance(part, FileSet | ShardSet)]
    count = sum(len(part.transparent) for part in streamed)
    return [*data.notes, *([transparency(count, streamed[0].background)] if count else [])]


def fingerprint(data: ImageData, shards: ShardSet | None = None) -> str:
    """Changes with any pixel, label, or class, and their order; of shards with how they are listed.

    Files that no cache holds are read for it, once.
    """
    facts = [data.mean, data.std, data.content, None if shards is None else shards.content]
    digest = hashlib.sha256()
    for part in (data.train, data.test):
        if part is not None:
            facts += [part.classes, part.image_size, part.content() if isinstance(part, FileSet) else None]
            digest.update(part.labels.numpy().tobytes())
    digest.update(json.dumps(facts).encode())
    return digest.hexdigest()
