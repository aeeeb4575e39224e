"""Interruptions: a run is saved and exits; anything else ends at once, since every file is written whole."""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import nullcontext
from types import FrameType
from typing import Any

from vaenas.errors import UserError

# Little is imported up to here: until the handlers are set, Ctrl-C would end in a traceback.
INTERRUPTED: dict[int, int] = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


class Interrupted(BaseException):
    """Stopped by a signal at once; what is on disk is whole, since every file is written so."""

    def __init__(self, number: int) -> None:
        self.number = number


class Signals:
    """What signals this process has got: the first in a run that can be saved, and the first that raised; else 0."""

    def __init__(self) -> None:
        self.saves, self.stopped_by, self.raised = False, 0, 0
        self._terminals = [number for number in (1, 2) if os.isatty(number)]

    def take(self, number: int, frame: FrameType | None) -> None:
        """The handler: notes the first signal of a run, raises the next one, and ends the process at one more."""
        if number == signal.SIGHUP:
            for terminal in self._terminals:  # it is gone: what is still printed would be an error
                os.dup2(os.open(os.devnull, os.O_WRONLY), terminal)
        if self.saves and not self.stopped_by:
            self.stopped_by = number
            from vaenas.parallel import is_main

            if is_main():
                print("stopping and saving; once more to stop at once", file=sys.stderr)
            return
        # A module under import, as torch in the first seconds, may swallow what is raised.
        while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
            frame = frame.f_back
        if self.raised or frame is not None:
            os._exit(INTERRUPTED[number])
        self.raised = number
        raise Interrupted(number)


SIGNALS = Signals()


def to_its_end(again: str, make: Callable[[], Any], progress: Callable[[Any], Any]) -> None:
    """Makes a run and shows it to its end; a signal saves it and exits, and says that `again` goes on."""
    from vaenas import parallel

    try:
        run = make()
        with progress(run) if parallel.is_main() else nullcontext() as shown:
            SIGNALS.saves = True
            for record in run.records():
                if shown is not None:
                    shown.show(record)
                if parallel.all_reduce_max(SIGNALS.stopped_by):  # all processes stop at one record
                    run.save()
                    break
            stopped_by = parallel.all_reduce_max(SIGNALS.stopped_by)  # and go on together, once the result is written
        if stopped_by:
            from typer import Exit

            if parallel.is_main():
                print(f"stopped and saved; go on with: {again}", file=sys.stderr)
            raise Exit(INTERRUPTED[stopped_by])
    except RuntimeError as error:
        if "DataLoader worker" in str(error):  # as torch says it
            raise UserError(
                f"a process that decodes images has ended ({str(error).splitlines()[0]}): give it more memory, in "
                f"/dev/shm too, or ask for fewer --workers; go on with: {again}"
            ) from None
        if not parallel.is_lost_process(error):
            raise
        raise parallel.LostProcess(
            f"another process of this job has ended, so this one can't go on; resume with: {again}"
        ) from None
    finally:
        SIGNALS.saves = False
