"""`vaenas run`: a search, and what happens around it, from the choice of a width to the exported network."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from vaenas.commands.evaluate import evaluation_of, print_evaluation
from vaenas.commands.options import (
    RUN,
    begin,
    free_folder,
    given,
    keep_folder,
    resume_command,
    setting_options,
    with_options,
)
from vaenas.commands.search import PANELS, name_of, search_to_its_end
from vaenas.commands.train import found_by, train_to_its_end
from vaenas.errors import UserError
from vaenas.export import ENDINGS
from vaenas.files import write_atomically
from vaenas.runs.config import SearchConfig
from vaenas.runs.settings import Configuration, check_kept, make
from vaenas.training.config import RECIPES, TrainConfig

if TYPE_CHECKING:
    from vaenas.runs.directory import RunDirectory

PLAN = "run.yaml"


class Plan(Configuration):
    """What follows the search; `run.yaml` of the folder."""

    recipe: str = "quick"
    train_epochs: int | None = None
    formats: str = "onnx"  # with commas between
    batch_size: int | None = None  # of the training, where the recipe's is too large for so few images

    @property
    def kinds(self) -> list[str]:
        return [kind.strip() for kind in self.formats.split(",")]

    def training(self, found: dict[str, Any]) -> TrainConfig:
        """Settings of the training; raises `UserError` for a recipe or number of epochs that there is not."""
        own = {"training.epochs": self.train_epochs, "training.batch_size": self.batch_size}
        return make(TrainConfig, {**found, "recipe": self.recipe, **given(own)})

    def fitted(self, settings: SearchConfig) -> "Plan":
        """With a batch that the images fill, of eight an epoch, where the recipe's is larger than all of them."""
        from vaenas.data.load import load
        from vaenas.data.subsets import train_and_test

        images = len(train_and_test(load(settings.data))[0])
        if self.checked_for(settings).training.batch_size <= images:
            return self
        return self.model_copy(update={"batch_size": max(2, images // 8)})

    def checked_for(self, settings: SearchConfig) -> TrainConfig:
        """The training of some code; raises `UserError` for what would stop the run after its search."""
        from vaenas.export.export import check_format

        for kind in self.kinds:
            check_format(kind)  # also whether its packages are there: not after hours of search
        network = {"network.width": settings.network.width, "network.layers": settings.network.layers}
        return self.training({"code": "-", "space": settings.space, **network})


@with_options(RUN | setting_options(SearchConfig, PANELS))
def run(
    recipe: Annotated[
        str | None, typer.Option(metavar="|".join(RECIPES), help="How the found network is trained. [quick]")
    ] = None,
    train_epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of that training (the recipe's).")] = None,
    formats: Annotated[
        str | None, typer.Option(help=f"What to export, with commas between: {', '.join(ENDINGS)}. [onnx]")
    ] = None,
    **options: Any,
) -> None:
    """Search, train, test, export, report: from images to a network in use.

    Without --width, the widest network of which half the space keeps the limits on multiply-adds and parameters.
    """
    from vaenas.runs.directory import NewRun, RunDirectory

    output, config, resume = (options.pop(name) for name in RUN)
    planned = given({"recipe": recipe, "train_epochs": train_epochs, "formats": formats})
    if resume is not None:
        keep_folder(resume, output)
        folder = resume
        whole, plan = open_run(folder)
        for name, value in planned.items():
            check_kept(folder, name, getattr(plan, name), value)
        settings, place = begin(SearchConfig, "search", name_of, None, config, folder / "search", **options)
        plan.checked_for(settings)
    else:
        settings = with_widest_fit(make(SearchConfig, given(options), config))
        plan = make(Plan, planned).fitted(settings)
        folder = output or free_folder(f"run-{name_of(settings)}")
        whole = RunDirectory(folder)
        place = NewRun(folder, "search", {PLAN: yaml.safe_dump(plan.model_dump()).encode()})
    again = resume_command("run", folder)
    search_to_its_end(settings, place, again, whole)
    finish(plan, settings, folder, again)


def open_run(folder: Path) -> "tuple[RunDirectory, Plan]":
    """A folder of `vaenas run`, locked, and the plan that it was begun with; raises `UserError` where it is none."""
    from vaenas.runs.directory import RunDirectory

    whole, file = RunDirectory(folder), folder / PLAN
    if not file.is_file():
        raise UserError(f"--resume {folder}: no run of `vaenas run` is in it (no {PLAN})")
    whole.lock()
    return whole, make(Plan, {}, file)


def with_widest_fit(settings: SearchConfig) -> SearchConfig:
    """The settings with the widest network of which half the space keeps the limits, where no width is given."""
    from torch import Generator

    from vaenas.constraints import Constraints
    from vaenas.data.load import load
    from vaenas.networks import space_class

    bounds, widths = settings.constraints, space_class(settings.space).widths
    if settings.network.width is not None or not widths or (bounds.max_flops is None and bounds.max_params is None):
        return settings
    train = load(settings.data).train

    def at(width: float) -> SearchConfig:
        return settings.model_copy(update={"network": replace(settings.network, width=width)})

    def fits(width: float) -> bool:
        image_space = at(width).image_space(train.image_size, train.channels, len(train.classes))
        constraints = Constraints(image_space.cost, bounds.max_flops, bounds.max_params)
        drawn = settings.search_space(image_space).uniform(500, Generator().manual_seed(settings.seed))
        keeping = constraints.is_feasible(drawn)
        return float(keeping.float().mean()) >= 0.5

    return at(next(filter(fits, widths), widths[-1]))


def finish(plan: Plan, settings: SearchConfig, folder: Path, again: str) -> None:
    """Trains what the search in `folder` found, tests it, exports it; everything lies in `folder` at the end."""
    from vaenas.export.export import export
    from vaenas.parallel import is_main
    from vaenas.runs.directory import NewRun, RunDirectory

    search, training = folder / "search", folder / "training"
    threads = RunDirectory(search).threads  # the same on every way to the end
    directory = RunDirectory.open(training, "training") if training.exists() else NewRun(training, threads=threads)
    train_to_its_end(plan.training(found_by(str(search))), directory, again)
    if not is_main():
        return
    exported: dict[str, Path] = {}
    for kind in plan.kinds:
        name = "weights" if kind in ("timm", "safetensors") else "network"
        exported[kind] = export(training, kind, folder / f"{name}{ENDINGS[kind]}", force=True)
    figures = evaluation_of(training, settings.data, 64, folder / "confusion.png", exported.get("onnx"))
    RunDirectory(folder).write_json("evaluation.json", figures)
    print_evaluation(figures)
    write_atomically(folder / "report.html", (search / "report.html").read_bytes())
    print(*exported.values(), folder / "report.html", sep="\n")
