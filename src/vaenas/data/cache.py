"""The cache folder, and how files reach it whole or not at all."""

import hashlib
import json
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor

from vaenas import files
from vaenas.data.pool import thread_pool
from vaenas.errors import UserError

ELSEWHERE = "make room or set VAENAS_CACHE to another folder"
_CHUNK = 1024  # files whose digests are waited for together


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


class _Known(BaseModel):
    """What a set of files held when names, sizes and times of change were those of `stats`."""

    stats: str
    content: str


def stats_digest(paths: Sequence[Path], root: Path) -> str:
    """Changes with the files' names below `root`, their sizes, times of change, and order."""
    digest = hashlib.sha256()
    for path in paths:
        facts: list[int] = []
        with suppress(OSError):  # a dangling link, for example: whoever opens it names it
            found = path.stat()
            facts = [found.st_size, found.st_mtime_ns]
        digest.update(json.dumps([str(path.relative_to(root)), *facts]).encode())
    return digest.hexdigest()


def content_digest(paths: Sequence[Path], root: Path, memory: Path) -> str:
    """Changes with what the files below `root` hold, and their order; those that cannot be read count as such.

    They are read once for their names, sizes and times, which the file `memory` keeps.

    Raises:
        UserError: `memory` cannot be written. That is found before anything is read.
    """
    stats = stats_digest(paths, root)
    with suppress(OSError, ValidationError):  # none yet, or damaged
        known = _Known.model_validate_json(memory.read_bytes())
        if known.stats == stats:
            return known.content
    with files.writing(memory, ELSEWHERE):
        memory.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomically(memory, b"")
    digest = hashlib.sha256()
    with thread_pool(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(paths), _CHUNK):
            digest.update("\n".join(pool.map(_digest_if_readable, paths[start : start + _CHUNK])).encode() + b"\n")
    content = digest.hexdigest()
    files.write_atomically(memory, _Known(stats=stats, content=content).model_dump_json().encode())
    return content


def _digest_if_readable(path: Path) -> str:
    with suppress(OSError):
        if stat.S_ISREG(path.stat().st_mode):
            return file_digest(path, "blake2b")
    return ""


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """`files.new_folder` in the cache: where another process was quicker, its `target` stays."""
    with suppress(FileExistsError), files.new_folder(target, ELSEWHERE) as path:
        yield path


def tensor_of(array: np.ndarray) -> Tensor:
    """A tensor that shares the memory of a read-only, memory-mapped array. Writing to it crashes the process."""
    # A copy-on-write map would be writable, but Linux refuses one that is larger than its memory and swap.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)
        return torch.from_numpy(array)
