"""The cache folder, and how files reach it whole or not at all."""

import hashlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vaenas.files import writing


def cache_dir() -> Path:
    """The cache folder: `$VAENAS_CACHE`, else `~/.cache/vaenas`. It need not exist yet."""
    return Path(os.environ.get("VAENAS_CACHE") or "~/.cache/vaenas").expanduser()


def file_digest(path: Path, algorithm: str) -> str:
    """The hexadecimal digest of a file, for example with `algorithm="sha256"`."""
    with path.open("rb") as file:
        # The digests name and check files, they protect nothing: allowed where md5 is otherwise forbidden.
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield an empty temporary folder that becomes `target` when the block ends well, and vanishes when it does not.

    Where another process was quicker, its `target` stays. Raises `UserError` where `target` cannot be written.
    """
    temporary = None
    try:
        with writing(target.parent, "make room or set VAENAS_CACHE to another folder"):
            target.parent.mkdir(parents=True, exist_ok=True)
            # Beside the target, so that the rename stays on one file system and is atomic.
            temporary = Path(tempfile.mkdtemp(prefix=f".{target.name[:16]}-", dir=target.parent))
            yield temporary
            try:
                temporary.rename(target)
            except OSError:
                if not target.is_dir():
                    raise
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def tensor_of(array: np.ndarray) -> Tensor:
    """A tensor that shares the memory of a read-only, memory-mapped array. Writing to it crashes the process."""
    # A copy-on-write map would be writable, but Linux refuses one that is larger than its memory and swap.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)
        return torch.from_numpy(array)
