"""Interruptions: a run is saved and exits; anything else ends at once, since every file is written whole."""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import nullcontext
from types import FrameType
from typing import Any

import typer

from vaenas.errors import UserError

INTERRUPTED: dict[int, int] = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


class Interrupted(BaseException):
    """Stopped by a signal at once; what is on disk is whole, since every file is written so."""

    def __init__(self, number: int) -> None:
        self.number = number


def heeded() -> list[int]:
    """The signals that end this process; `nohup` has it ignore one, and that stays so."""
    return [number for number in INTERRUPTED if signal.getsignal(number) is not signal.SIG_IGN]


def to_its_end(again: str, make: Callable[[], Any], progress: Callable[[Any], Any]) -> None:
    """Makes a run and shows it to its end; a signal saves it and exits.

    Args:
        again: what to call to go on, for the message.
        make: gives a `SearchRun` or a `TrainRun`.
        progress: of it, a context manager that shows records.
    """
    from vaenas import parallel

    running, stopped_by = False, 0
    terminals = [number for number in (1, 2) if os.isatty(number)]

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped_by
        if number == signal.SIGHUP:
            for terminal in terminals:  # it is gone: what is still printed would be an error
                os.dup2(os.open(os.devnull, os.O_WRONLY), terminal)
        if stopped_by or not running:  # asked twice, or nothing to save yet: at once
            raise Interrupted(number)
        stopped_by = number
        if parallel.is_main():
            print("stopping and saving; once more to stop at once", file=sys.stderr)

    previous = {number: signal.signal(number, stop) for number in heeded()}
    try:
        run = make()
        with progress(run) if parallel.is_main() else nullcontext() as shown:
            running = True
            for record in run.records():
                if shown is not None:
                    shown.show(record)
                if parallel.all_reduce_max(stopped_by):  # all processes stop at one record
                    run.save()
                    break
            agreed = parallel.all_reduce_max(stopped_by)  # and go on together, once the first has written the result
        running = False
        if agreed:
            if parallel.is_main():
                print(f"stopped and saved; go on with: {again}", file=sys.stderr)
            raise typer.Exit(INTERRUPTED[agreed])
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
        for number, handler in previous.items():
            signal.signal(number, handler)
