"""What a user can mend. Everything else is a bug and keeps its traceback."""

import importlib.util


class UserError(Exception):
    """A mistake in what came from outside: one line that names the value, the limit and the mend.

    The command line prints the line and exits with code 2.
    """


def require(package: str, extra: str, asked: str) -> None:
    """Raises `UserError` if the package of an extra is not installed; `asked` is the option that needs it."""
    if importlib.util.find_spec(package) is None:
        raise UserError(f"{asked}: needs {package}: pip install 'vaenas[{extra}]'")
