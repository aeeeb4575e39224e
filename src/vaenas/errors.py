"""What a user can fix. Everything else is a bug and keeps its traceback."""

import errno
import importlib.util
import re

# What torch says without a class of its own: of the CPU's memory, and of /dev/shm, by which workers hand over images.
MEMORY = re.compile(r"allocate memory|out of memory|bad_alloc|shared memory|unable to (write to|mmap) .*torch_", re.I)

LONGEST = 1500  # characters of a message


class UserError(Exception):
    """A mistake in what came from outside: one line that names the value, the limit and the fix.

    The command line prints the line and exits with code 2. Of texts from outside, what would break the line or the
    screen is written as an escape, and what is beyond `LONGEST` characters is left out.
    """

    def __init__(self, message: str) -> None:
        line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)
        super().__init__(line if len(line) <= LONGEST else f"{line[: LONGEST - 300]} ... {line[-200:]}")


def printable(text: str) -> str:
    """The text without what a terminal, XML or UTF-8 can't take, or what turns the direction of writing."""
    return "".join(c if c.isprintable() or c == "\xa0" else " " if c.isspace() else "\ufffd" for c in text)


def require(package: str, extra: str, asked: str) -> None:
    """Raises `UserError` if the package of an extra is not installed; `asked` is the option that needs it."""
    if importlib.util.find_spec(package) is None:
        raise UserError(f"{asked}: needs {package}: pip install 'vaenas[{extra}]'")


def out_of_memory(error: Exception) -> bool:
    """Whether it says that memory has run out, this process's, the device's, or what workers share."""
    return (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or (isinstance(error, RuntimeError) and MEMORY.search(str(error)) is not None)
    )
