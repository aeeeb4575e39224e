"""`vaenas train`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vaenas.commands.options import (
    CONFIG,
    OF_IMAGES,
    OUTPUT,
    RESUME,
    free_folder,
    given,
    resume_command,
    with_settings,
)
from vaenas.commands.signals import to_its_end
from vaenas.documents import read_yaml
from vaenas.errors import UserError
from vaenas.runs.config import SearchConfig
from vaenas.runs.settings import make, resumed
from vaenas.training.config import TrainConfig

if TYPE_CHECKING:
    from vaenas.runs.directory import NewRun, RunDirectory

PANELS = {
    "Training": (
        "recipe", "training.epochs", "training.batch_size", "training.learning_rate", "teacher.model",
        "teacher.weights",
    ),
    "Network": ("space", "network.width", "network.layers"),
    "Images": (*OF_IMAGES, "shards"),
    "Machine": ("seed", "machine.device"),
}  # fmt: skip
OF_SEARCH = ("source", "root", "skip_bad_images", "background", "workers", "image_size")  # of its images


def train(
    code_or_run: Annotated[
        str | None, typer.Argument(metavar="CODE|RUN", help="An architecture's code, or the run that found one.")
    ] = None,
    output: OUTPUT = None,
    config: CONFIG = None,
    resume: RESUME = None,
    **options: Any,
) -> None:
    """Train one architecture from scratch.

    Every setting may stand in the YAML file, too: --help-all shows them.
    """
    from vaenas.parallel import is_main
    from vaenas.progress import print_trained
    from vaenas.runs.directory import NewRun, RunDirectory

    settings = given(options)
    if resume is not None:
        if code_or_run is not None or output not in (None, resume):
            raise UserError(f"--resume {resume}: a resumed run keeps its architecture and folder; leave the others out")
        directory, folder = RunDirectory.open(resume, "training"), resume
        made = resumed(TrainConfig, resume, settings, config)
    else:
        made = make(TrainConfig, _with_found(code_or_run, settings, config), config)
        if made.code == code_or_run:
            try:
                made.search_space().decode([made.code])
            except UserError as error:
                raise UserError(f"{error}; nor is there a run's folder of that name") from None
        folder = output or free_folder("train")
        directory = NewRun(folder)
    train_to_its_end(made, directory, resume_command("train", folder))
    if is_main():
        print_trained(RunDirectory(folder))


with_settings(train, TrainConfig, PANELS)


def _with_found(code_or_run: str | None, settings: dict[str, Any], config: Path | None) -> dict[str, Any]:
    """The settings, and what the architecture or the search that found it decides of the others."""
    if code_or_run is None:
        return settings
    if "code" in settings:
        raise UserError(f"--code {settings['code']}: {code_or_run} names the architecture already; leave one out")
    found = found_by(code_or_run)
    if "data.source" in settings:  # the search's say nothing of other images
        found = {path: value for path, value in found.items() if not path.startswith("data.")}
    named = {*found, *settings, *(read_yaml(config) if config else ())}
    if "space" not in named and code_or_run.startswith(("|", "{")):  # a benchmark's own text
        from vaenas.architectures import guess

        found["space"] = guess(code_or_run)
    return {**found, **settings}


def found_by(code_or_run: str) -> dict[str, Any]:
    """The settings that an architecture, or the search that found it, decides."""
    from vaenas.architectures import run_folder, unknown_space
    from vaenas.networks.image_spaces import IMAGE_SPACES
    from vaenas.records import SearchResult, read_result_of
    from vaenas.runs.directory import RunDirectory

    folder = run_folder(code_or_run)
    if folder is None:
        return {"code": code_or_run}
    directory = RunDirectory(folder)
    if not directory.result_file.is_file():
        raise UserError(f"{folder}: no result.json: the search has not ended; resume it first")
    result = read_result_of(SearchResult, directory.result_file)
    if result.space not in IMAGE_SPACES:
        raise unknown_space(folder, result.space)
    images = make(SearchConfig, {}, directory.config_file).data
    return {
        "space": result.space,
        "network.width": result.geometry.width,
        "network.layers": result.geometry.layers,
        "code": result.best.code,
        "search": folder.resolve().name,
        **{f"data.{name}": getattr(images, name) for name in OF_SEARCH},
    }


def train_to_its_end(settings: TrainConfig, directory: "NewRun | RunDirectory", again: str) -> None:
    """Trains; `again` is what to call to go on after a stop."""
    from vaenas.progress import TrainProgress
    from vaenas.runs.directory import NewRun
    from vaenas.training.train_run import TrainRun

    if isinstance(directory, NewRun) or directory.result() is None:
        to_its_end(again, lambda: TrainRun(settings, directory), TrainProgress)
