"""What a user can mend. Everything else is a bug and keeps its traceback."""


class UserError(Exception):
    """A mistake in what came from outside: one line that names the value, the limit and the mend.

    The command line prints the line and exits with code 2.
    """
