"""`vaenas` and `python -m vaenas`: the command line as a process of its own, which signals end without a traceback."""

import os
import signal
import sys
from types import FrameType
from typing import Any


def main() -> None:
    """Entry point. What is on disk is whole at every moment, so a signal may end it anywhere; runs save first."""
    # `nohup` has a process ignore a signal, and it stays so.
    heeded = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
    for number in heeded:
        signal.signal(number, signal.SIG_DFL)  # while it imports, which takes seconds
    from vaenas import cli
    from vaenas.runs.command import INTERRUPTED, Interrupted

    asked: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        if asked:
            os._exit(INTERRUPTED[number])
        asked.append(number)
        raise Interrupted(number)

    def unraisable(found: Any) -> None:
        if isinstance(found.exc_value, Interrupted):  # met in a destructor, where it would be printed and forgotten
            os._exit(INTERRUPTED[found.exc_value.number])
        sys.__unraisablehook__(found)

    sys.unraisablehook = unraisable
    for number in heeded:
        signal.signal(number, interrupt)
    try:
        cli.main()
    except Exception:
        if not asked:
            raise
        sys.exit(INTERRUPTED[asked[0]])  # foreign code makes any error of an interruption
    finally:
        for number in heeded:
            signal.signal(number, signal.SIG_IGN)  # it ends anyway


if __name__ == "__main__":
    main()
