"""The run directory: what is written, when, and how it is read again."""

import fcntl
import io
import json
import os
import weakref
import zipfile
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import BaseModel

import vaenas
from vaenas.errors import UserError
from vaenas.files import write_atomically, writing
from vaenas.parallel import is_main
from vaenas.records import SearchResult, TrainingResult, read_result

MEND = "make room or choose another --output"


class RunDirectory:
    """`config.yaml`, `metrics.jsonl`, `checkpoint`, `result.json`, and what else a run writes of its own.

    Of several processes only the first writes and locks; the others read the checkpoint.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_file = path / "config.yaml"
        self.metrics_file = path / "metrics.jsonl"
        self.checkpoint_file = path / "checkpoint"
        self.result_file = path / "result.json"

    @classmethod
    def create(cls, path: Path, config: BaseModel) -> "RunDirectory":
        """A new run; raises `UserError` if the folder holds anything already."""
        directory = cls(path)
        if not is_main():
            return directory
        with writing(path, MEND):
            path.mkdir(parents=True, exist_ok=True)
            if directory.config_file.exists():
                raise UserError(f"--output {path} holds another run: choose another folder, or --resume {path}")
            for left_by_a_kill in path.glob(".config.yaml.*.tmp"):
                left_by_a_kill.unlink()
            if any(path.iterdir()):
                raise UserError(f"--output {path} is not empty and holds no run: choose another folder")
        text = yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True)
        write_atomically(directory.config_file, f"# vaenas {vaenas.__version__}\n{text}".encode())
        return directory

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """A run that was begun; raises `UserError` if there is none, or if another version began it."""
        directory = cls(path)
        if not directory.config_file.is_file():
            raise UserError(f"--resume {path}: there is no run in it (no config.yaml)")
        try:
            version = directory.config_file.read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("# vaenas ")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--resume {path}: cannot read {directory.config_file}: {error}") from None
        if version != vaenas.__version__:
            raise UserError(
                f"--resume {path}: begun by vaenas {version}, this is {vaenas.__version__}: install that version, "
                f"or begin anew with --config {directory.config_file}"
            )
        if not is_main():
            return directory
        with writing(path, MEND):
            for left_by_a_kill in path.glob(".*.tmp"):
                left_by_a_kill.unlink()
        return directory

    def lock(self) -> None:
        """Keeps others from working on this run as long as this object lives; the system frees it if killed.

        Raises:
            UserError: another one is at it.
        """
        if not is_main():
            return
        descriptor = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{self.path}: another process is working on this run; wait for it, or stop it") from None

    def append_metrics(self, line: dict[str, Any]) -> None:
        """One line more; at the system's once written, so that killing this process loses nothing."""
        with writing(self.metrics_file, MEND), self.metrics_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Replaces the checkpoint in one move; how far `metrics.jsonl` had come is kept with it."""
        size = self.metrics_file.stat().st_size if self.metrics_file.exists() else 0
        buffer = io.BytesIO()
        torch.save({**state, "metrics_bytes": size, "version": vaenas.__version__}, buffer)
        write_atomically(self.checkpoint_file, buffer.getvalue())

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The last checkpoint, or None if the run was stopped before its first; metrics after it are cut off.

        Raises:
            UserError: the file is cut short or altered.
        """
        if not self.checkpoint_file.exists():
            if is_main():
                self.metrics_file.unlink(missing_ok=True)
            return None
        damaged = (
            f"{self.checkpoint_file} is damaged: it cannot be resumed; remove it to begin the run again, "
            f"or use a copy of it"
        )
        try:
            with zipfile.ZipFile(self.checkpoint_file) as archive:  # torch's loader does not look at check sums
                if archive.testzip() is not None:
                    raise UserError(damaged)
            state = torch.load(self.checkpoint_file, weights_only=True, map_location="cpu")
        except UserError:
            raise
        except OSError as error:
            raise UserError(f"cannot read {self.checkpoint_file}: {error.strerror}") from None
        except Exception:  # what torch raises for a broken file is of no one class
            raise UserError(damaged) from None
        if is_main() and self.metrics_file.exists():
            with writing(self.metrics_file, MEND), self.metrics_file.open("r+b") as file:
                # Whole lines only: a power cut may have lost some that the checkpoint counts.
                file.truncate(file.read(state["metrics_bytes"]).rfind(b"\n") + 1)
        return state

    def load_checkpoint_of(self, config: BaseModel, data: str, fingerprint: str) -> dict[str, Any] | None:
        """`load_checkpoint`, if it is of a run with these settings on these images.

        Args:
            data: what the images are called; `fingerprint` changes with them.

        Raises:
            UserError: it is of another, or damaged.
        """
        checkpoint = self.load_checkpoint()
        if checkpoint is None:
            return None
        for name, value in checkpoint["config"].items():
            if value != getattr(config, name):
                raise UserError(
                    f"{self.config_file}, {name}: {getattr(config, name)} is not what the run was begun with, {value}: "
                    f"put it back, or begin a new run"
                )
        if checkpoint["data"] != fingerprint:
            raise UserError(
                f"--resume {self.path}: the images of {data} are not those that the run was begun with: put them back, "
                f"or begin a new run"
            )
        return checkpoint

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Writes `name` atomically."""
        if not is_main():
            return
        write_atomically(self.path / name, (json.dumps(content, indent=1) + "\n").encode())

    def result(self) -> SearchResult | TrainingResult | None:
        """`result.json`, or None before the run has ended."""
        return read_result(self.result_file) if self.result_file.is_file() else None
