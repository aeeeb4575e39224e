"""The run directory: what is written, when, and how it is read again."""

import io
import json
import os
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
import yaml
from pydantic import BaseModel, Field

import vaenas
from vaenas import machine
from vaenas.documents import dotted, read_json
from vaenas.errors import UserError
from vaenas.files import FolderLock, new_folder, sync_folder, write_atomically, write_new, writing
from vaenas.parallel import is_main
from vaenas.records import Environment

FORMAT = 3  # of run directories: raise it when an older one can't be resumed

Kind = Literal["search", "training"]


class Checkpoint(BaseModel, extra="forbid"):
    """What `checkpoint` holds."""

    config: dict[str, Any]  # settings by their dotted names
    inputs: dict[str, str]  # digests of what the run reads, by what a user calls it
    seconds: float
    state: dict[str, Any]  # the algorithm's
    metrics_bytes: int = Field(default=0, ge=0)  # how long `metrics.jsonl` was


class Begun(BaseModel, extra="forbid"):
    """`environment.json`: by what a run was begun."""

    format: int
    kind: Kind
    environment: Environment


@runtime_checkable
class Stateful(Protocol):
    """The state of an algorithm."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def _alike(saved: Any, fresh: Any) -> bool:
    """Whether a saved state has the form of one that has not begun, whose None and empty parts may have any size."""
    if fresh is None:
        return True
    if type(saved) is not type(fresh):
        return False
    if isinstance(fresh, torch.Tensor):
        sizes = saved.shape == fresh.shape if fresh.numel() else saved.shape[1:] == fresh.shape[1:]
        return saved.dtype == fresh.dtype and sizes
    if isinstance(fresh, dict):
        return not fresh or (saved.keys() == fresh.keys() and all(_alike(saved[key], fresh[key]) for key in fresh))
    if isinstance(fresh, list | tuple):
        return not fresh or (len(saved) == len(fresh) and all(map(_alike, saved, fresh)))
    return True


class RunDirectory:
    """`config.yaml`, `environment.json`, `metrics.jsonl`, `checkpoint`, `result.json`, and what else a run writes.

    Whoever works on it holds its lock. Of several processes only the first writes and locks; the others read.
    """

    def __init__(self, path: Path) -> None:
        """To look at; `open` and `NewRun.create` give one to work in."""
        self.path = path
        self.config_file = path / "config.yaml"
        self.environment_file = path / "environment.json"
        self.metrics_file = path / "metrics.jsonl"
        self.checkpoint_file = path / "checkpoint"
        self.result_file = path / "result.json"
        self._kept_metrics: int | None = None  # bytes, of a resumed run

    @classmethod
    def open(cls, path: Path, kind: Kind) -> "RunDirectory":
        """A run to go on with; raises `UserError` where none of that kind and format is, or another process has it."""
        directory = cls(path)
        if not directory.config_file.is_file():
            raise UserError(f"--resume {path}: there is no run in it (no config.yaml)")
        directory.lock()
        begun = directory.begun
        if begun.format != FORMAT:
            raise UserError(
                f"--resume {path}: a run of format {begun.format}, where this vaenas goes on with {FORMAT} alone: "
                f"install the version that config.yaml names, or begin anew with --config {directory.config_file}"
            )
        if begun.kind != kind:
            raise UserError(f"--resume {path}: it is a {begun.kind}, not a {kind}; resume it by its own command")
        return directory

    def lock(self) -> None:
        """Keeps others from working on this run as long as this object lives; raises `UserError` if another one is."""
        if is_main():
            self._lock = FolderLock(self.path)

    @cached_property
    def begun(self) -> Begun:
        """By what the run was begun; raises `UserError` where that cannot be read."""
        return read_json(Begun, self.environment_file, f"put it back, or begin anew with --config {self.config_file}")

    @property
    def ended(self) -> bool:
        """Whether the run has written its result."""
        return self.result_file.is_file()

    @cached_property
    def threads(self) -> int | None:
        """How many the run was begun with: its bits depend on it."""
        threads = self.begun.environment.get("threads")
        return threads if isinstance(threads, int) and threads > 0 else None

    def save_checkpoint(self, config: BaseModel, inputs: Mapping[str, str], seconds: float, state: Stateful) -> None:
        """Replaces the checkpoint in one move; how far `metrics.jsonl` had come is kept with it."""
        if not is_main():
            return
        size = self.metrics_file.stat().st_size if self.metrics_file.exists() else 0
        checkpoint = Checkpoint(
            config=dotted(config.model_dump()), inputs={**inputs}, seconds=seconds, state=state.state_dict(),
            metrics_bytes=size,
        )  # fmt: skip
        buffer = io.BytesIO()
        torch.save(dict(checkpoint), buffer)
        write_atomically(self.checkpoint_file, buffer.getvalue())

    def load_checkpoint(self) -> Checkpoint | None:
        """The last checkpoint, None if the run was stopped before its first; raises `UserError` for a damaged one."""
        if not self.checkpoint_file.is_file():
            return None
        with self._reading():
            with zipfile.ZipFile(self.checkpoint_file) as parts:  # torch's loader does not look at checksums
                if parts.testzip() is not None:
                    raise ValueError
            return Checkpoint(**torch.load(self.checkpoint_file, weights_only=True, map_location="cpu"))

    def restore(self, checkpoint: Checkpoint, state: Stateful) -> None:
        """Loads what the algorithm has saved; raises `UserError` where it is not of this run."""
        with self._reading():
            if not _alike(checkpoint.state, state.state_dict()):
                raise ValueError
            state.load_state_dict(checkpoint.state)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Turns what is raised where a checkpoint is read or loaded into a `UserError`."""
        try:
            yield
        except UserError:
            raise
        except OSError as error:
            raise UserError(f"cannot read {self.checkpoint_file}: {error.strerror or error}") from None
        except Exception:  # what torch raises for a broken or another's file is of no one class
            raise UserError(
                f"{self.checkpoint_file} is damaged, or of another run: remove it to begin the run again, or put "
                f"back a copy of it"
            ) from None

    def resume(self, config: BaseModel, inputs: Mapping[str, str], environment: Environment, state: Stateful) -> float:
        """Brings `state` to the last checkpoint, gives the seconds that it had taken.

        It warns of another environment than the run's; raises `UserError` where settings or inputs are others.
        """
        changes = machine.differences(self.begun.environment, environment)
        if changes and is_main():
            print(
                f"vaenas: warning: {self.path} was begun elsewhere: {'; '.join(changes)}: the results may differ in "
                "their last bits, and with them everything that follows",
                file=sys.stderr,
            )
        checkpoint = self.load_checkpoint()
        if checkpoint is not None:
            self._check_same(checkpoint, config, inputs)
        self._kept_metrics = checkpoint.metrics_bytes if checkpoint else 0
        if checkpoint is None:
            return 0.0
        self.restore(checkpoint, state)
        return checkpoint.seconds

    def cut_metrics(self) -> None:
        """Takes away what was told after the checkpoint that a resumed run goes on from: it will be told again."""
        if is_main() and self._kept_metrics is not None and self.metrics_file.exists():
            with writing(self.metrics_file), self.metrics_file.open("r+b") as file:
                # Whole lines only: a power cut may have lost some that the checkpoint counts.
                file.truncate(file.read(self._kept_metrics).rfind(b"\n") + 1)

    def _check_same(self, checkpoint: Checkpoint, config: BaseModel, inputs: Mapping[str, str]) -> None:
        for name, value in dotted(config.model_dump()).items():
            begun = checkpoint.config.get(name)
            if type(value) is not type(begun) or value != begun:
                raise UserError(
                    f"{self.config_file}, {name}: {str(value)[:100]} is not what the run was begun with, "
                    f"{str(begun)[:100]}: put it back, or begin a new run"
                )
        for what, digest in inputs.items():
            if checkpoint.inputs.get(what) != digest:
                raise UserError(
                    f"--resume {self.path}: {what} changed since the run was begun: put back what was there, or "
                    f"begin a new run"
                )

    def write_json(self, name: str, content: BaseModel | dict[str, Any]) -> None:
        """Writes `name` atomically."""
        if is_main():
            whole = content.model_dump(mode="json") if isinstance(content, BaseModel) else content
            write_atomically(self.path / name, (json.dumps(whole, indent=1) + "\n").encode())


class NewRun(RunDirectory):
    """A run directory that is still to be made.

    Args:
        folder: made in one move, with all that a run needs to be resumed; must not be there, or be empty.
        inside: where in it the run itself is; "" = `folder` is the run directory.
        files: what else is in `folder` from the beginning.
        threads: how many it takes; None = as many as cores are free.
    """

    def __init__(
        self, folder: Path, inside: str = "", files: Mapping[str, bytes] | None = None, threads: int | None = None
    ) -> None:
        super().__init__(folder / inside)
        self.folder, self.files, self.threads = folder, files or {}, threads

    def check(self) -> None:
        """Raises `UserError` if there is something in the folder already."""
        with writing(self.folder):
            taken = is_main() and os.path.isdir(self.folder) and any(self.folder.iterdir())
        if taken:
            what = "is not empty and holds no run: choose another folder"
            if any((self.folder / name).exists() for name in ("config.yaml", "run.yaml")):
                what = f"holds another run: choose another folder, or --resume {self.folder}"
            raise UserError(f"--output {self.folder} {what}")

    def create(self, kind: Kind, config: BaseModel, environment: Environment, files: Mapping[str, bytes]) -> None:
        """Makes it with its settings and `files`; raises `UserError` if the folder holds anything already."""
        if not is_main():
            return
        settings = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        begun = Begun(format=FORMAT, kind=kind, environment=environment).model_dump_json(indent=1)
        own = {"config.yaml": f"# vaenas {vaenas.__version__}\n{settings}".encode(), "environment.json": begun.encode()}
        try:
            with new_folder(self.folder) as folder:
                run = folder / self.path.relative_to(self.folder)
                run.mkdir(exist_ok=True)
                for name, content in self.files.items():
                    write_new(folder / name, content)
                for name, content in {**own, **files}.items():
                    write_new(run / name, content)
                sync_folder(run)
        except FileExistsError:
            self.check()
            raise
        self.lock()
