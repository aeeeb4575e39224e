"""`vaenas train`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vaenas.commands.options import OF_IMAGES, RUN, begin, given, resume_command, setting_options, with_options
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


@with_options(RUN | setting_options(TrainConfig, PANELS))
def train(
    code_or_run: Annotated[
        str | None, typer.Argument(metavar="CODE|RUN", help="An architecture's code, or the run that found one.")
    ] = None,
    **options: Any,
) -> None:
    """Train one architecture from scratch.

    Every setting may stand in the YAML file, too: --help-all shows them.
    """
    from vaenas.commands.progress import print_trained
    from vaenas.parallel import is_main
    from vaenas.runs.directory import RunDirectory

    options = given(options)
    if code_or_run is not None:
        options = {**_found(code_or_run, options), **options}
    settings, place = begin(TrainConfig, "training", lambda _: "train", **options)
    if settings.code == code_or_run:
        try:
            settings.image_space().space.decode([settings.code])
        except UserError as error:
            raise UserError(f"{error}; nor is there a run's folder of that name") from None
    train_to_its_end(settings, place, resume_command("train", place.path))
    if is_main():
        print_trained(RunDirectory(place.path))


def _found(code_or_run: str, options: dict[str, Any]) -> dict[str, Any]:
    """What the architecture, or the search that found it, decides of the settings beside those that are given."""
    for name in ("resume", "code"):
        if name in options:
            raise UserError(f"--{name} {options[name]}: it says the architecture already; leave {code_or_run} out")
    found = found_by(code_or_run, options.get("space_file"))
    if "data.source" in options:  # the search's say nothing of other images
        found = {path: value for path, value in found.items() if not path.startswith("data.")}
    named = {*found, *options, *(read_yaml(options["config"]) if "config" in options else ())}
    if "space" not in named and code_or_run.startswith(("|", "{")):  # a benchmark's own text
        from vaenas.commands.architecture import guess

        found["space"] = guess(code_or_run)
    return found


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
