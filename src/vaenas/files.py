"""Files that are written whole or not at all, and what the system says when they can't be."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vaenas.errors import UserError

USERS_TO_MEND = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EACCES,
    errno.ENOENT,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENAMETOOLONG,
}


@contextmanager
def writing(what: Path, mend: str) -> Iterator[None]:
    """Turns a full disk, missing permission and the like into a `UserError` that names `what` and the mend."""
    try:
        yield
    except OSError as error:
        if error.errno not in USERS_TO_MEND:
            raise
        raise UserError(f"cannot write {what}: {error.strerror}; {mend}") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces `path` in one move: whoever reads it, or is killed meanwhile, finds the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path, "make room or choose another folder"):
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # else a power cut could leave the new name on an empty file
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
