"""`vaenas` and `python -m vaenas`: the command line as a process of its own, which signals end without a traceback."""

import os
import signal
import sys
from typing import Any

from vaenas.commands.signals import INTERRUPTED, SIGNALS, Interrupted


def main() -> None:
    """Entry point. What is on disk is whole at every moment, so a signal may end it anywhere; runs save first."""
    heeded = [number for number in INTERRUPTED if signal.getsignal(number) is not signal.SIG_IGN]  # `nohup` ignores one
    for number in heeded:
        signal.signal(number, signal.SIG_DFL)  # until the commands are known
    from vaenas import cli

    sys.unraisablehook = _unraisable
    for number in heeded:
        signal.signal(number, SIGNALS.take)
    try:
        cli.main()
    except Exception:
        if not SIGNALS.raised:
            raise
        sys.exit(INTERRUPTED[SIGNALS.raised])  # foreign code makes any error of an interruption
    finally:
        for number in heeded:
            signal.signal(number, signal.SIG_IGN)  # it ends anyway


def _unraisable(found: Any) -> None:
    if isinstance(found.exc_value, Interrupted):  # met in a destructor, where it would be printed and forgotten
        os._exit(INTERRUPTED[found.exc_value.number])
    sys.__unraisablehook__(found)


if __name__ == "__main__":
    main()
