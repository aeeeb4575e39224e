"""Long work in pieces: each a job in a process of its own and one JSON line, so that what was stopped goes on."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from pydantic import BaseModel, ValidationError

from vaenas.documents import first_of
from vaenas.errors import UserError
from vaenas.files import FolderLock, write_atomically, writing
from vaenas.machine import cores

E = TypeVar("E", bound=BaseModel)


class Finished(Generic[E]):
    """The lines of a file whose first line says what they belong to; a last line that was cut short is taken off.

    A context manager: its folder is locked until the end; the system frees it if the process is killed.

    Args:
        kind: of the lines; validated with `belongs_to` as context.
        key: by which `entries` has them.

    Raises:
        UserError: the file belongs to something else, or is no such file; another process works in its folder.
    """

    def __init__(self, file: Path, belongs_to: dict[str, Any], kind: type[E], key: Callable[[E], Any]) -> None:
        self.file, self.key, folder = file, key, file.parent
        with writing(file):
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(folder)
            lines = file.read_bytes().splitlines(keepends=True) if file.is_file() else []
        head = json.dumps(belongs_to).encode() + b"\n"
        whole = [line for line in lines if line.endswith(b"\n")] or [head]
        if whole[0] != head:
            raise UserError(
                f"--output {folder}: {file.name} is of another table or other settings; choose another folder"
            )
        if whole != lines:
            write_atomically(file, b"".join(whole))
        self.entries: dict[Any, E] = {}
        for number, line in enumerate(whole[1:], start=2):
            try:
                entry = kind.model_validate_json(line, context=belongs_to)
            except ValidationError as error:
                raise UserError(
                    f"--output {folder}: {file.name}, line {number} is damaged ({first_of(error)}); "
                    "remove the line, or choose another folder"
                ) from None
            self.entries[key(entry)] = entry

    def __enter__(self) -> "Finished[E]":
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def run(self, call: Callable[..., E], keys: Iterable[tuple], workers: int | None) -> Iterator[E]:
        """Yields `call(*key)` of each key that has no entry yet, as they end, once it is in the file.

        Stopped in between, by a signal too, it ends the workers at once.

        Args:
            call: picklable.
            workers: how many processes, of one thread each; None: one a core.

        Raises:
            UserError: a worker was killed.
        """
        others = set(active_children())
        with ProcessPoolExecutor(workers or cores(), mp_context=get_context("spawn"), initializer=_begin) as pool:
            try:
                # Ctrl-C in a terminal goes to the workers as well: from their first moment they leave it to this one.
                before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
                try:
                    futures = [pool.submit(call, *key) for key in keys if key not in self.entries]
                finally:
                    signal.pthread_sigmask(signal.SIG_SETMASK, before)
                for future in as_completed(futures):
                    self.add(entry := future.result())
                    yield entry
            except BrokenProcessPool:
                raise UserError(
                    "a worker process was killed, perhaps since memory ran out: lower --workers and start again to go "
                    "on"
                ) from None
            except BaseException:
                for worker in set(active_children()) - others:
                    worker.kill()
                pool.shutdown(cancel_futures=True)
                raise

    def add(self, entry: E) -> None:
        """One line more, which a power cut leaves whole or not at all."""
        self.entries[self.key(entry)] = entry
        with writing(self.file, "make room and start again to go on"), self.file.open("ab") as file:
            file.write(entry.model_dump_json().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _begin() -> None:
    """A worker's start: it takes one thread, and ends with its parent."""
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := parent_process():
        parent.join()
    os._exit(1)


def write_summary(path: Path, summary: dict[str, Any]) -> None:
    """What the pieces say, as JSON."""
    write_atomically(path, (json.dumps(summary, indent=1) + "\n").encode())


def check_least(options: dict[str, int | None], least: int = 1) -> None:
    """Raises `UserError` for the first option that is given and smaller."""
    for name, value in options.items():
        if value is not None and value < least:
            raise UserError(f"{name} {value}: at least {least} is needed")
