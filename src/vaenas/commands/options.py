"""What commands have in common: groups of options, settings as options in panels, and where runs go."""

import inspect
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from typer.core import TyperCommand

from vaenas.errors import UserError
from vaenas.runs.settings import Configuration, make, option, resumed, settings_of

if TYPE_CHECKING:
    from vaenas.runs.directory import Kind, NewRun, RunDirectory

C = TypeVar("C", bound=Configuration)
F = TypeVar("F", bound=Callable[..., None])
Trained = Annotated[Path, typer.Argument(metavar="RUN|WEIGHTS", help="A training's folder, or a file of weights.")]
SpaceFile = Annotated[Path | None, typer.Option(help="Python file that registers a space of your own.")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that are there already.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RUN = {  # where a run's settings come from, and its folder; see `begin`
    "output": Annotated[Path | None, typer.Option(help="Run directory (default: a new one under runs/).")],
    "config": Annotated[Path | None, typer.Option(help="YAML file of settings; options given here come first.")],
    "resume": Annotated[Path | None, typer.Option(help="Go on with this run.")],
}
ARCHITECTURE = {  # one of a space, and the network that is meant; see `architecture.choose`
    "code": Annotated[str | None, typer.Argument(metavar="CODE|RUN", help="Its code, or the run that found it.")],
    "space": Annotated[str | None, typer.Option(help="Search space (default: the one whose codes look so).")],
    "space_file": SpaceFile,
    "genotype": Annotated[str | None, typer.Option(help='DARTS\'s form: "Genotype(normal=[...], ...)".')],
    "layers": Annotated[int | None, typer.Option(min=1, max=1000, help="Of the network.")],
    "width": Annotated[float | None, typer.Option(help="shufflenet, macro: factor of all channels; others: channels.")],
    "image_size": Annotated[int | None, typer.Option(max=1024, help="Side of the images in pixels [32].")],
    "classes": Annotated[int | None, typer.Option(max=10**6, help="Number of classes [10].")],
}
OF_IMAGES = ("data.source", "data.root", "data.image_size", "data.workers", "data.skip_bad_images")


class SettingsCommand(TyperCommand):
    """A command whose help has a section for each panel of options."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)  # None where it is hidden
            if record is not None:
                panels.setdefault(getattr(parameter, "rich_help_panel", None) or "Options", []).append(record)
        for panel, records in panels.items():
            with formatter.section(panel):
                formatter.write_dl(records)


def with_options(options: Mapping[str, Any]) -> Callable[[F], F]:
    """Gives a command these options in place of its **options; what the user leaves out is None."""

    def decorate(command: F) -> F:
        parameters = [p for p in inspect.signature(command).parameters.values() if p.kind is not p.VAR_KEYWORD]
        for name, kind in options.items():
            parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind))
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads it
        return command

    return decorate


def setting_options(model: type[Configuration], panels: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """An option for each setting, and --help-all; only those of `panels` are in the help."""
    known = settings_of(model)
    shown = {path: panel for panel, paths in panels.items() for path in paths}
    options = {path.replace(".", "__"): _option(path, known[path], shown.get(path)) for path in {**shown, **known}}
    help_all = typer.Option("--help-all", is_eager=True, callback=_help_all, help="Show every setting, and exit.")
    return {**options, "help_all": Annotated[bool | None, help_all]}


def _option(path: str, field: FieldInfo, panel: str | None) -> Any:
    flag, kind = option(path), bool if field.annotation is bool else str
    usual = "" if field.default in (None, "") or kind is bool else f" [{field.default}]"
    literal = get_origin(field.annotation) is Literal
    allowed = "|".join(get_args(field.annotation)) if literal else path.rpartition(".")[2].upper()
    made = typer.Option(
        f"{flag}/--no-{flag[2:]}" if kind is bool else flag,
        help=f"{field.description}{usual}",
        metavar=None if kind is bool else allowed,
        rich_help_panel=panel or path.partition(".")[0],
        hidden=panel is None,
    )
    return Annotated[kind | None, made]


def _help_all(ctx: Any, value: bool | None) -> None:
    if value:
        for parameter in ctx.command.params:
            parameter.hidden = False  # type: ignore[attr-defined]  # of options
        print(ctx.get_help())
        raise typer.Exit


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The settings among a command's options that the user has given, by their paths."""
    return {name.replace("__", "."): value for name, value in options.items() if value is not None}


def begin(
    model: type[C], kind: "Kind", name: Callable[[C], str], output: Path | None = None, config: Path | None = None,
    resume: Path | None = None, **options: Any,
) -> "tuple[C, NewRun | RunDirectory]":  # fmt: skip
    """The settings of a run and its directory, kept or new; `name` of new settings is the folder's."""
    from vaenas.runs.directory import NewRun, RunDirectory

    if resume is not None:
        keep_folder(resume, output)
        directory = RunDirectory.open(resume, kind)
        return resumed(model, resume, given(options), config), directory
    settings = make(model, given(options), config)
    return settings, NewRun(output or free_folder(name(settings)))


def keep_folder(resume: Path, output: Path | None) -> None:
    """Raises `UserError` if a run that is resumed is to lie elsewhere."""
    if output not in (None, resume):
        raise UserError(f"--output {output}: a resumed run stays in its folder, {resume}; leave --output out")


def free_folder(name: str) -> Path:
    """runs/NAME, or the first of runs/NAME-2 and so on that is not there."""
    for ending in ("", *(f"-{i}" for i in range(2, 1000))):
        if not os.path.lexists(folder := Path("runs", name + ending)):
            return folder
    raise UserError(f"--output: runs/{name} to runs/{name}-999 are all there; choose another folder, or remove some")


def resume_command(command: str, directory: Path) -> str:
    return f"vaenas {command} --resume {shlex.quote(str(directory))}"
