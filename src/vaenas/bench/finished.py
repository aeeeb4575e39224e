"""Finished pieces of a long run, one JSON line each, so that a run that was stopped goes on."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from vaenas.bench.pool import run_jobs
from vaenas.documents import first_of
from vaenas.errors import UserError
from vaenas.files import FolderLock, write_atomically, writing

E = TypeVar("E", bound=BaseModel)


class Finished(Generic[E]):
    """The lines of a file whose first line says what they belong to; a last line that was cut short is taken off.

    A context manager: its folder is locked until the end; the system frees it if the process is killed.

    Args:
        kind: of the lines; validated with `belongs_to` as context.

    Raises:
        UserError: the file belongs to something else, or is no such file; another process works in its folder.
    """

    def __init__(self, file: Path, belongs_to: dict[str, Any], kind: type[E]) -> None:
        self.file, folder = file, file.parent
        head = json.dumps(belongs_to).encode() + b"\n"
        with writing(file):
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(folder)
            lines = file.read_bytes().splitlines(keepends=True) if file.is_file() else []
        if not lines or (len(lines) == 1 and not lines[0].endswith(b"\n")):
            write_atomically(file, head)
            lines = [head]
        if lines[0] != head:
            raise UserError(
                f"--output {folder}: {file.name} is of another table or other settings; choose another folder"
            )
        whole = [line for line in lines if line.endswith(b"\n")]
        if len(whole) < len(lines):
            write_atomically(file, b"".join(whole))
        self.entries: list[E] = []
        for number, line in enumerate(whole[1:], start=2):
            try:
                self.entries.append(kind.model_validate_json(line, context=belongs_to))
            except ValidationError as error:
                raise UserError(
                    f"--output {folder}: {file.name}, line {number} is damaged ({first_of(error)}); "
                    "remove the line, or choose another folder"
                ) from None

    def __enter__(self) -> "Finished[E]":
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def run(self, call: Callable[..., E], jobs: Iterable[tuple], workers: int | None) -> Iterator[E]:
        """Yields `call(*job)` of each job, as they end in processes of their own, each once it is in the file."""
        for entry in run_jobs(call, jobs, workers):
            self.add(entry)
            yield entry

    def add(self, entry: E) -> None:
        """One line more, which a power cut leaves whole or not at all."""
        self.entries.append(entry)
        with writing(self.file, "make room and start again to go on"), self.file.open("ab") as file:
            file.write(entry.model_dump_json().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def write_summary(path: Path, summary: dict[str, Any]) -> None:
    """What the pieces say, as JSON."""
    write_atomically(path, (json.dumps(summary, indent=1) + "\n").encode())


def check_least(options: dict[str, int | None], least: int = 1) -> None:
    """Raises `UserError` for the first option that is given and smaller."""
    for name, value in options.items():
        if value is not None and value < least:
            raise UserError(f"{name} {value}: at least {least} is needed")
