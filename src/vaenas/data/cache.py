"""The cache folder, and how files reach it whole or not at all."""

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.pool import ThreadPool
from pathlib import Path

from vaenas import files
from vaenas.documents import from_json
from vaenas.errors import UserError

ELSEWHERE = "make room or set VAENAS_CACHE to another folder"


def cache_dir() -> Path:
    """The cache folder: `$VAENAS_CACHE`, else `~/.cache/vaenas`. It need not exist yet.

    Raises `UserError`: nobody's home.
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

    Raises `UserError`: `memory` cannot be written. That is found before anything is read.
    """
    stats = stats_digest(paths, root)
    with suppress(OSError, ValueError):  # none yet, or damaged
        known, content = from_json(tuple[str, str], memory.read_bytes())
        if known == stats:
            return content
    with files.writing(memory, ELSEWHERE):
        memory.parent.mkdir(parents=True, exist_ok=True)
        memory.touch()
    digest = hashlib.sha256()
    with ThreadPool(min(8, os.cpu_count() or 1)) as pool:
        for found in pool.imap(_digest_if_readable, paths, chunksize=16):
            digest.update(f"{found}\n".encode())
    files.write_atomically(memory, json.dumps([stats, digest.hexdigest()]).encode())
    return digest.hexdigest()


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
