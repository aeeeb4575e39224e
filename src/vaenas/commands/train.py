"""`vaenas train`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vaenas.commands.options import OF_IMAGES, Config, Output, Resume, begin, given, resume_command, with_settings
from vaenas.commands.signals import to_its_end
from vaenas.documents import read_yaml
from vaenas.errors import UserError
from vaenas.runs.config import SearchConfig
from vaenas.runs.settings import make
from vaenas.training.config import TrainConfig

if TYPE_CHECKING:
    from vaenas.runs.directory import NewRun, RunDirectory

PANELS = {
    "Training": (
        "recipe", "training.epochs", "training.batch_size", "training.learning_rate", "teacher.model",
        "teacher.weights",
    ),
    "Network": ("space", "space_file", "network.width", "network.layers"),
    "Images": (*OF_IMAGES, "shards"),
    "Machine": ("seed", "machine.device"),
}  # fmt: skip
OF_SEARCH = ("source", "root", "skip_bad_images", "background", "workers", "image_size")  # of its images


def train(
    code_or_run: Annotated[
        str | None, typer.Argument(metavar="CODE|RUN", help="An architecture's code, or the run that found one.")
    ] = None,
    output: Output = None,
    config: Config = None,
    resume: Resume = None,
    **options: Any,
) -> None:
    """Train one architecture from scratch.

    Every setting may stand in the YAML file, too: --help-all shows them.
    """
    from vaenas.commands.progress import print_trained
    from vaenas.parallel import is_main
    from vaenas.runs.directory import RunDirectory

    settings = given(options)
    if code_or_run is not None:
        if resume is not None:
            raise UserError(f"--resume {resume}: a resumed run keeps its architecture; leave {code_or_run} out")
        settings = _with_found(code_or_run, settings, config)
    made, place = begin(TrainConfig, "training", lambda _: "train", settings, config, output, resume)
    if made.code == code_or_run:
        try:
            made.image_space().space.decode([made.code])
        except UserError as error:
            raise UserError(f"{error}; nor is there a run's folder of that name") from None
    train_to_its_end(made, place, resume_command("train", place.path))
    if is_main():
        print_trained(RunDirectory(place.path))


with_settings(train, TrainConfig, PANELS)


def _with_found(code_or_run: str, settings: dict[str, Any], config: Path | None) -> dict[str, Any]:
    """The settings, and what the architecture or the search that found it decides of the others."""
    if "code" in settings:
        raise UserError(f"--code {settings['code']}: {code_or_run} names the architecture already; leave one out")
    found = found_by(code_or_run, settings.get("space_file"))
    if "data.source" in settings:  # the search's say nothing of other images
        found = {path: value for path, value in found.items() if not path.startswith("data.")}
    named = {*found, *settings, *(read_yaml(config) if config else ())}
    if "space" not in named and code_or_run.startswith(("|", "{")):  # a benchmark's own text
        from vaenas.commands.architecture import guess

        found["space"] = guess(code_or_run)
    return {**found, **settings}


def found_by(code_or_run: str, space_file: str | None = None) -> dict[str, Any]:
    """The settings that an architecture, or the search that found it, decides."""
    from vaenas.commands.architecture import result_of

    folder, result = Path(code_or_run), result_of(code_or_run, None if space_file is None else Path(space_file))
    if result is None:
        return {"code": code_or_run}
    settings = make(SearchConfig, {}, folder / "config.yaml")
    return {
        "space": result.space,
        "space_file": settings.space_file,
        "network.width": result.network.width,
        "network.layers": result.network.layers,
        "code": result.best.code,
        "search": folder.resolve().name,
        **{f"data.{name}": getattr(settings.data, name) for name in OF_SEARCH},
    }


def train_to_its_end(settings: TrainConfig, place: "NewRun | RunDirectory", again: str) -> None:
    """Trains; `again` is what to call to go on after a stop."""
    from vaenas.commands.progress import TrainProgress
    from vaenas.runs.directory import NewRun
    from vaenas.training.train_run import TrainRun

    if isinstance(place, NewRun) or not place.ended:
        to_its_end(again, lambda: TrainRun(settings, place), TrainProgress)
