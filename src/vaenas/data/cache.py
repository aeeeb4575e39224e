"""The cache folder, and how files reach it whole or not at all."""

import hashlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vaenas import files
from vaenas.errors import UserError


def cache_dir() -> Path:
    """The cache folder: `$VAENAS_CACHE`, else `~/.cache/vaenas`. It need not exist yet.

    Raises:
        UserError: nobody's home.
    """
    folder = Path(os.environ.get("VAENAS_CACHE") or "~/.cache/vaenas")
    try:
        return folder.expanduser()
    except RuntimeError:
        raise UserError(f"cache {folder}: there is no such home; set VAENAS_CACHE to a folder") from None


def file_digest(path: Path, algorithm: str) -> str:
    """The hexadecimal digest of a file, for example with `algorithm="sha256"`."""
    with path.open("rb") as file:
        # The digests name and check files, they protect nothing: allowed where md5 is otherwise forbidden.
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """`files.new_folder` in the cache: where another process was quicker, its `target` stays."""
    with suppress(FileExistsError), files.new_folder(target, "make room or set VAENAS_CACHE to another folder") as path:
        yield path


def tensor_of(array: np.ndarray) -> Tensor:
    """A tensor that shares the memory of a read-only, memory-mapped array. Writing to it crashes the process."""
    # A copy-on-write map would be writable, but Linux refuses one that is larger than its memory and swap.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)
        return torch.from_numpy(array)
