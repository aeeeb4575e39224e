"""Finished pieces of a long run, one JSON line each, so that a run that was stopped goes on."""

import json
from pathlib import Path
from typing import Any

from vaenas.errors import UserError
from vaenas.files import write_atomically, writing


class Finished:
    """The lines of a file whose first line says what they belong to; a last line that was cut short is taken off.

    Raises:
        UserError: the file belongs to something else, or is no such file.
    """

    def __init__(self, file: Path, belongs_to: dict[str, Any]) -> None:
        self.file = file
        head = json.dumps(belongs_to) + "\n"
        with writing(file, "choose another folder"):
            file.parent.mkdir(parents=True, exist_ok=True)
            lines = file.read_text(errors="replace").splitlines(keepends=True) if file.exists() else []
        if not lines or (len(lines) == 1 and not lines[0].endswith("\n")):
            write_atomically(file, head.encode())
            lines = [head]
        if lines[0] != head:
            raise UserError(
                f"--output {file.parent}: {file.name} is of another table or other settings; choose another folder"
            )
        whole = [line for line in lines if line.endswith("\n")]
        if len(whole) < len(lines):
            write_atomically(file, "".join(whole).encode())
        try:
            self.entries: list[dict[str, Any]] = [json.loads(line) for line in whole[1:]]
        except ValueError:
            raise UserError(
                f"--output {file.parent}: {file.name} is damaged; remove it, or choose another folder"
            ) from None

    def add(self, entry: dict[str, Any]) -> None:
        """One line more."""
        self.entries.append(entry)
        with writing(self.file, "make room"), self.file.open("a") as file:
            file.write(json.dumps(entry) + "\n")
