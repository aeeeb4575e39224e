"""Files and folders that are written whole or not at all, by one process at a time; what is said when they can't be."""

import errno
import fcntl
import glob
import os
import secrets
import shutil
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import BinaryIO

from vaenas.errors import UserError

# What the user, not a programmer, can put right.
USERS_TO_FIX = {
    errno.EACCES, errno.EBUSY, errno.EDQUOT, errno.EEXIST, errno.EFBIG, errno.EINVAL, errno.EIO, errno.EISDIR,
    errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOSPC, errno.ENOTDIR, errno.ENOTEMPTY, errno.EPERM,
    errno.EROFS,
}  # fmt: skip
MAKE_ROOM = "make room or choose another folder"


@contextmanager
def writing(what: Path, fix: str = MAKE_ROOM) -> Iterator[None]:
    """Turns a full disk, missing permission and the like into a `UserError` that names `what` and the fix."""
    try:
        yield
    except OSError as error:
        if error.errno not in USERS_TO_FIX:
            raise
        raise UserError(f"cannot write {what}: {error.strerror}; {fix}") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces `path` in one move: whoever reads it, or is killed meanwhile, finds the old file or the new one."""
    with writing(path):
        remove_leftovers(path.parent, f"{path.name[:50]}.")  # of an earlier try that was killed
        temporary, descriptor = _new_file(path)
        try:
            with open(descriptor, "wb") as file:
                _write(file, content)
                os.replace(temporary, path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_new(path: Path, content: bytes) -> None:
    """A file in a folder that is not in its place yet (`new_folder`); raises OSError."""
    with path.open("xb") as file:
        _write(file, content)


def _write(file: BinaryIO, content: bytes) -> None:
    file.write(content)
    file.flush()
    os.fsync(file.fileno())  # else a power cut could leave the new name on an empty file


def _new_file(path: Path) -> tuple[Path, int]:
    """A new file beside `path`, locked while it is open, so that `remove_leftovers` knows it from a dead one's."""
    while True:
        temporary = temporary_beside(path)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        if lock(descriptor) and os.fstat(descriptor).st_nlink:  # else someone cleaned up between the two lines
            return temporary, descriptor
        os.close(descriptor)


def temporary_beside(path: Path) -> Path:
    """A name beside `path` that no process on any machine has; `remove_leftovers` knows it."""
    return path.with_name(f".{path.name[:50]}.{secrets.token_hex(8)}.tmp")


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """A power cut after this leaves the folder's names as they are now."""
    with _opened(folder) as descriptor:
        os.fsync(descriptor)


def lock(descriptor: int) -> bool:
    """Locks an open file or folder; False if another process has it. The system frees it with the last descriptor.

    On file systems without locks (NFS refuses those of folders) it warns once, and is True.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        _warn_once(f"this file system has no locks ({error.strerror}): let one process at a time write into a folder")
    return True


@cache
def _warn_once(message: str) -> None:
    print(f"vaenas: warning: {message}", file=sys.stderr)


def remove_leftovers(folder: Path, prefix: str = "") -> None:
    """Removes temporary files and folders that dead processes have left in `folder`; those in use are locked."""
    for path in folder.glob(f".{glob.escape(prefix)}*.tmp"):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:  # gone already, or nothing of ours
            continue
        try:
            if lock(descriptor):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)


class FolderLock:
    """Keeps other processes from working in a folder as long as this object lives; the system frees it if killed.

    Taken first, before anything in the folder is read or cleaned; then what dead processes have left is removed.
    Raises `UserError` if another process has it, or there is no such folder.
    """

    def __init__(self, folder: Path) -> None:
        with writing(folder):
            descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
            self.release = weakref.finalize(self, os.close, descriptor)  # or before its life ends
            _held.add(self)
            if not lock(descriptor):
                raise UserError(f"{folder}: another process is working in it; wait for it, or stop it")
            remove_leftovers(folder)


_held: weakref.WeakSet[FolderLock] = weakref.WeakSet()

# A worker that outlives its killed parent for a moment must not keep the lock.
os.register_at_fork(after_in_child=lambda: [held.release() for held in list(_held)])


@contextmanager
def new_folder(target: Path, fix: str = MAKE_ROOM) -> Iterator[Path]:
    """Yields an empty folder that becomes `target` in one move when the block ends well, and vanishes when it does not.

    It is locked while the block runs. An empty `target` is replaced; one that has something in it by then raises
    `FileExistsError`.
    """
    target = target.absolute()
    temporary = temporary_beside(target)
    try:
        with writing(target, fix):
            target.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(target.parent, f"{target.name[:50]}.")
            temporary.mkdir()
            with _opened(temporary) as descriptor:
                lock(descriptor)
                yield temporary
                os.fsync(descriptor)
                try:
                    os.replace(temporary, target)
                except OSError:
                    if os.path.isdir(target) and any(target.iterdir()):
                        raise FileExistsError(target) from None
                    raise
            sync_folder(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def refuse_to_replace(path: Path, option: str, force: bool) -> None:
    """Raises `UserError` if a file is there already that this command may not have made, unless `force`.

    Also if there is no folder to write it in: said before the work, not after it.
    """
    if not path.parent.is_dir():
        raise UserError(f"{option} {path}: there is no folder {path.parent}; make it, or choose another")
    if not force and os.path.lexists(path):
        raise UserError(f"{option} {path}: it is there already: choose another name, or replace it with --force")
