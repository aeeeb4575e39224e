"""What commands that make a run have in common: settings as options, in panels, and where runs go."""

import inspect
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.core import TyperCommand

from vaenas.errors import UserError
from vaenas.runs.settings import option, settings_of

Code = Annotated[str | None, typer.Argument(metavar="CODE|RUN", help="An architecture's code, or a run directory.")]
Space = Annotated[str | None, typer.Option(help="Search space (default: the one whose codes look so).")]
SpaceFile = Annotated[Path | None, typer.Option(help="Python file that registers a space of your own.")]
Genotype = Annotated[str | None, typer.Option(help='DARTS\'s form: "Genotype(normal=[...], ...)".')]
Layers = Annotated[int | None, typer.Option(min=1, max=1000, help="Of the network.")]
Width = Annotated[float | None, typer.Option(help="shufflenet, macro: multiplies all channels; others: channels.")]
ImageSize = Annotated[int | None, typer.Option(max=1024, help="Side of the images in pixels [32].")]
Classes = Annotated[int | None, typer.Option(max=10**6, help="Number of classes [10].")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that are there already.")]
Output = Annotated[Path | None, typer.Option(help="Run directory (default: a new one under runs/).")]
Config = Annotated[Path | None, typer.Option(help="YAML file of settings; options given here come first.")]
Resume = Annotated[Path | None, typer.Option(help="Go on with this run.")]
OF_IMAGES = (
    "data.source", "data.root", "data.image_size", "data.workers", "data.skip_bad_images",
)  # fmt: skip


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


def with_settings(
    command: Callable[..., None], model: type[BaseModel], panels: Mapping[str, Sequence[str]]
) -> Callable[..., None]:
    """Gives a command an option for each setting in place of its **options; only those of `panels` are in its help."""
    parameters = [p for p in inspect.signature(command).parameters.values() if p.kind is not p.VAR_KEYWORD]
    known = settings_of(model)
    shown = {path: panel for panel, paths in panels.items() for path in paths}
    for path in (*shown, *(path for path in known if path not in shown)):
        parameters.append(_parameter(path, known[path], shown.get(path)))
    annotation = Annotated[
        bool, typer.Option("--help-all", is_eager=True, callback=_help_all, help="Show every setting, and exit.")
    ]
    parameters.append(
        inspect.Parameter("help_all", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
    )
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads them from here
    return command


def _parameter(path: str, field: FieldInfo, panel: str | None) -> inspect.Parameter:
    flag, name = option(path), path.rpartition(".")[2]
    kind = bool if field.annotation is bool else str
    usual = "" if field.default in (None, "") or kind is bool else f" [{field.default}]"
    allowed = "|".join(get_args(field.annotation)) if get_origin(field.annotation) is Literal else name.upper()
    annotation = typer.Option(
        f"{flag}/--no-{flag[2:]}" if kind is bool else flag,
        help=f"{field.description}{usual}",
        metavar=None if kind is bool else allowed,
        rich_help_panel=panel or path.partition(".")[0],
        hidden=panel is None,
    )
    return inspect.Parameter(
        path.replace(".", "__"), inspect.Parameter.KEYWORD_ONLY, default=None,
        annotation=Annotated[kind | None, annotation],
    )  # fmt: skip


def _help_all(ctx: Any, value: bool) -> None:
    if value:
        for parameter in ctx.command.params:
            parameter.hidden = False  # type: ignore[attr-defined]  # of options
        print(ctx.get_help())
        raise typer.Exit


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The settings among a command's options that the user has given, by their paths."""
    return {
        name.replace("__", "."): value for name, value in options.items() if value is not None and name != "help_all"
    }


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
