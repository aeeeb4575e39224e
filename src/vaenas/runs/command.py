"""What every command that makes a run does alike: options from settings, interruptions, resuming."""

import inspect
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import FrameType, TracebackType
from typing import Annotated, Any, Literal, Protocol, TypeVar, get_args, get_origin, runtime_checkable

import typer
from pydantic import BaseModel

from vaenas import parallel
from vaenas.documents import read_yaml
from vaenas.errors import UserError
from vaenas.records import Record
from vaenas.runs.config import option
from vaenas.runs.directory import RunDirectory

INTERRUPTED: dict[int, int] = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
C = TypeVar("C", bound=BaseModel)


class Interrupted(BaseException):
    """Stopped by a signal at once; what is on disk is whole, since every file is written so."""

    def __init__(self, number: int) -> None:
        self.number = number


@runtime_checkable
class Run(Protocol):
    """A search or a training."""

    directory: RunDirectory

    def records(self) -> Iterator[Record]: ...

    def save(self) -> None: ...


@runtime_checkable
class Progress(Protocol):
    """A context manager that shows records."""

    def __enter__(self) -> "Progress": ...

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def show(self, record: Record) -> None: ...


def with_settings(command: Callable[..., None], model: type[BaseModel]) -> None:
    """Gives a command one option for each setting, in place of its **options: settings are written down only once."""
    parameters = [p for p in inspect.signature(command).parameters.values() if p.kind is not p.VAR_KEYWORD]
    for name, field in model.model_fields.items():
        shown = "" if field.default is None or field.is_required() else f" [{field.default}]"
        kind = bool if field.annotation is bool else str
        allowed = "|".join(get_args(field.annotation)) if get_origin(field.annotation) is Literal else name.upper()
        annotation = Annotated[kind | None, typer.Option(help=f"{field.description}{shown}", metavar=allowed)]
        if kind is bool:
            annotation = Annotated[
                bool | None, typer.Option(f"{option(name)}/{option(f'no_{name}')}", help=f"{field.description}")
            ]
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads them from here


def unchanged(
    directory: RunDirectory, given: dict[str, Any], file: Path | None, make: Callable[[dict[str, Any], Path | None], C]
) -> C:
    """The settings of the run to resume; raises `UserError` if the user asks for others."""
    settings = make({}, directory.config_file)
    if given or file:
        wanted = make({**settings.model_dump(), **(read_yaml(file) if file else {}), **given}, None)
        for name, value in wanted.model_dump().items():
            check_kept(directory.path, name, getattr(settings, name), value)
    return settings


def check_kept(folder: Path, name: str, begun: Any, wanted: Any) -> None:
    """Raises `UserError` if the setting `name` that the user wants is not what the run in `folder` began with."""
    if wanted != begun:
        raise UserError(
            f"{option(name)} {wanted}: the run in {folder} has {begun}; a resumed run keeps its settings: leave the "
            f"option out, or begin a new run"
        )


def free_folder(name: str) -> Path:
    """runs/NAME, or the first of runs/NAME-2 and so on that is not there."""
    for ending in ("", *(f"-{i}" for i in range(2, 1000))):
        if not os.path.lexists(folder := Path("runs", name + ending)):
            return folder
    raise UserError(f"--output: runs/{name} to runs/{name}-999 are all there; choose another folder, or remove some")


def resume_command(command: str, directory: Path) -> str:
    return f"vaenas {command} --resume {shlex.quote(str(directory))}"


def to_its_end(again: str, make: Callable[[], Run], progress: Callable[[Any], Progress]) -> None:
    """Makes a run and shows it to its end; a signal saves it and exits.

    Args:
        again: what to call to go on, for the message.
    """
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

    # What is ignored from the start, as by nohup, stays ignored.
    heeded = [number for number in INTERRUPTED if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, stop) for number in heeded}
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
