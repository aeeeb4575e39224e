"""`vaenas train` and `vaenas export`."""

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from vaenas.errors import UserError
from vaenas.export.export import ENDINGS
from vaenas.export.export import export as write_export
from vaenas.runs.command import to_its_end, unchanged, with_settings
from vaenas.runs.directory import RunDirectory
from vaenas.training.config import TrainConfig, make_train_config

OF_SEARCH = ("space", "width", "layers", "data", "data_root", "skip_bad_images", "image_size")


def train(
    code_or_run: Annotated[
        str | None, typer.Argument(metavar="CODE|RUN", help="An architecture's code, or the run that found one.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Run directory (default: a new one under runs/).")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings; options given here come first.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with this training.")] = None,
    **options: Any,
) -> None:
    """Train one architecture from scratch; every setting may stand in the YAML file, too."""
    from vaenas.progress import TrainProgress, print_trained
    from vaenas.training.train_run import TrainRun

    given = {name: value for name, value in options.items() if value is not None}
    if resume is not None:
        if code_or_run is not None or output not in (None, resume):
            raise UserError(f"--resume {resume}: a resumed run keeps its architecture and folder; leave the others out")
        settings, folder = unchanged(resume, given, config, make_train_config), resume
    else:
        if code_or_run is not None:
            given = {**_chosen(code_or_run), **given}
        settings = make_train_config(given, config)
        names = ["train", *(f"train-{i}" for i in range(2, 1000))]
        folder = output or next(p for p in (Path("runs", name) for name in names) if not p.exists())
    to_its_end(
        "train", lambda: TrainRun(settings, folder, resume is not None), TrainProgress, folder, resume is not None
    )
    print_trained(RunDirectory(folder))


with_settings(train, TrainConfig)


def _chosen(code_or_run: str) -> dict[str, Any]:
    """The settings that an architecture, or the search that found it, decides."""
    folder = Path(code_or_run)
    if not folder.is_dir():
        return {"code": code_or_run}
    directory = RunDirectory(folder)
    result = directory.result()
    if result is None:
        raise UserError(f"{folder}: no result.json: the search has not ended; resume it first")
    try:
        settings = yaml.safe_load(directory.config_file.read_text(encoding="utf-8"))
        found = {name: settings[name] for name in OF_SEARCH if settings.get(name) is not None}
        return {**found, "code": result["best"]["code"], "search": folder.resolve().name}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError, TypeError, KeyError) as error:
        raise UserError(f"{folder}: not the folder of a search that ended ({error!r})") from None


def export(
    source: Annotated[Path, typer.Argument(metavar="RUN|WEIGHTS", help="A training's folder, or a file of weights.")],
    form: Annotated[str, typer.Option("-f", "--format", metavar="|".join(ENDINGS), help="What to write.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Default: beside the weights.")] = None,
) -> None:
    """Write a trained network for others, with a model card (README.md) beside it."""
    if form not in ENDINGS:
        raise UserError(f"--format {form}: choose {', '.join(ENDINGS)}")
    print(write_export(source, form, output))
