"""`vaenas` and `python -m vaenas`: the command line as a process of its own, which signals end without a traceback."""

import os
import signal
import sys
from types import FrameType
from typing import Any

from vaenas.commands.signals import INTERRUPTED, Interrupted, heeded


def main() -> None:
    """Entry point. What is on disk is whole at every moment, so a signal may end it anywhere; runs save first."""
    numbers = heeded()
    for number in numbers:
        signal.signal(number, signal.SIG_DFL)  # until the commands are known
    from vaenas import cli

    asked: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        if asked or _importing(frame):
            os._exit(INTERRUPTED[number])
        asked.append(number)
        raise Interrupted(number)

    def unraisable(found: Any) -> None:
        if isinstance(found.exc_value, Interrupted):  # met in a destructor, where it would be printed and forgotten
            os._exit(INTERRUPTED[found.exc_value.number])
        sys.__unraisablehook__(found)

    sys.unraisablehook = unraisable
    for number in numbers:
        signal.signal(number, interrupt)
    try:
        cli.main()
    except Exception:
        if not asked:
            raise
        sys.exit(INTERRUPTED[asked[0]])  # foreign code makes any error of an interruption
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)  # it ends anyway


def _importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported, as torch in the first seconds: its code may swallow an interruption."""
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


if __name__ == "__main__":
    main()
