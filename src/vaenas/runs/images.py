"""The images of a run: loaded by its settings, in parts that purposes share, known again when it resumes."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from vaenas.data import ImageData, load
from vaenas.data.images import ImageSet
from vaenas.evaluation.supernet import Batch

EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Subset:
    """The rows of an image set that one purpose may use."""

    data: ImageSet
    rows: torch.Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: torch.Tensor) -> Batch:
        return self.data.batch(self.rows[indices])

    def batches(self, n: int, size: int = EVALUATION_BATCH) -> list[Batch]:
        """The first n rows in batches of nearly equal size, at most `size`."""
        return [self.batch(part) for part in torch.arange(n).chunk(-(-n // size))]


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


def load_data(config: DataSettings) -> ImageData:
    """The images that the settings name."""
    root = Path(config.data_root) if config.data_root else None
    return load(config.data, root, config.image_size, config.download, config.skip_bad_images)


def fingerprint(data: ImageData) -> str:
    """Changes with the images that were found, their order, their classes and their colours."""
    facts = [data.train.classes, data.train.image_size, data.mean, data.std]
    return hashlib.sha256(json.dumps(facts).encode() + data.train.labels.numpy().tobytes()).hexdigest()
