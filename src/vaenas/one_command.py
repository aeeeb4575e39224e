"""`vaenas run`: what happens around its search, from the choice of a width to the exported network."""

import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from vaenas.constraints import Constraints, uniform_proposals
from vaenas.documents import read_yaml
from vaenas.errors import UserError
from vaenas.export.export import ENDINGS, check_format, export
from vaenas.files import write_atomically
from vaenas.network_commands import evaluation_of, found_by, print_evaluation, train_to_its_end
from vaenas.networks import NetworkConfig, space_class
from vaenas.parallel import is_main
from vaenas.runs.command import check_kept
from vaenas.runs.config import SearchConfig
from vaenas.runs.directory import NewRun, RunDirectory
from vaenas.runs.images import load_data, train_and_test
from vaenas.runs.search_parts import search_space
from vaenas.training.config import TrainConfig, make_train_config

PLAN = "run.yaml"


class Plan(BaseModel):
    """What follows the search; `run.yaml` of the folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: str = "quick"
    train_epochs: int | None = None
    formats: str = "onnx"  # with commas between
    batch_size: int | None = None  # of the training, where the recipe's is too large for so few images

    @property
    def kinds(self) -> list[str]:
        return [kind.strip() for kind in self.formats.split(",")]

    def training(self, found: dict[str, Any]) -> TrainConfig:
        """Settings of the training; raises `UserError` for a recipe or number of epochs that there is not."""
        given = {"epochs": self.train_epochs, "batch_size": self.batch_size}
        given = {name: value for name, value in given.items() if value is not None}
        return make_train_config({**found, "recipe": self.recipe, **given})

    def fitted(self, settings: SearchConfig) -> "Plan":
        """With a batch that the images fill, of eight an epoch, where the recipe's is larger than all of them."""
        images = len(train_and_test(load_data(settings))[0])
        if self._for(settings).batch_size <= images:
            return self
        return self.model_copy(update={"batch_size": max(2, images // 8)})

    def _for(self, settings: SearchConfig) -> TrainConfig:
        # Any code will do: the found one is not known yet, and only the training itself reads it.
        found = {"code": "-", "space": settings.space, "width": settings.width, "layers": settings.layers}
        return self.training(found)

    def to_yaml(self) -> bytes:
        """What `read_plan` reads."""
        return yaml.safe_dump(self.model_dump()).encode()

    def keep(self, folder: Path, wanted: "Plan") -> None:
        """Raises `UserError` if the user, who resumes the run in `folder`, asks for something else."""
        for name, usual in Plan():
            value = getattr(wanted, name)
            if value != usual:  # given
                check_kept(folder, name, getattr(self, name), value)

    def check(self, settings: SearchConfig) -> None:
        """Raises `UserError` for what would stop the run after its search."""
        for kind in self.kinds:
            check_format(kind)  # also whether its packages are there: not after hours of search
        self._for(settings)


def open_run(folder: Path) -> tuple[RunDirectory, Plan]:
    """The lock of a folder of `vaenas run`, and the plan that it was begun with.

    Raises:
        UserError: there is none, or another process is working on it.
    """
    whole, file = RunDirectory(folder), folder / PLAN
    if not file.is_file():
        raise UserError(f"--resume {folder}: no run of `vaenas run` is in it (no {PLAN})")
    whole.lock()
    try:
        return whole, Plan(**read_yaml(file))
    except ValidationError:
        raise UserError(f"{file}: not the plan of a run: put it back, or begin a new run") from None


def with_widest_fit(settings: SearchConfig, given: dict[str, Any]) -> SearchConfig:
    """The settings with the widest network of which half the space keeps the limits, where no width is given."""
    kind = space_class(settings.space)
    if "width" in given or not kind.widths or (settings.max_flops is None and settings.max_params is None):
        return settings
    train, layers = load_data(settings).train, settings.layers
    assert layers is not None
    sizes = train.image_size, train.channels, len(train.classes)

    def fits(width: float) -> bool:
        image_space = kind(NetworkConfig(*sizes, width, layers))
        constraints = Constraints(image_space.cost, settings.max_flops, settings.max_params)
        space = search_space(settings, image_space)
        keeping = constraints.is_feasible(uniform_proposals(space, settings.seed)(500))
        return float(keeping.float().mean()) >= 0.5

    return settings.model_copy(update={"width": next(filter(fits, kind.widths), kind.widths[-1])})


def finish(plan: Plan, folder: Path, again: str) -> None:
    """Trains what the search in `folder` found, tests it, exports it; everything lies in `folder` at the end."""
    search, training = folder / "search", folder / "training"
    settings = plan.training(found_by(str(search)))
    threads = RunDirectory(search).threads  # the same on every way to the end
    directory = RunDirectory.open(training, "training") if training.exists() else NewRun(training, threads=threads)
    train_to_its_end(settings, directory, again)
    if not is_main():
        return
    exported: dict[str, Path] = {}
    for kind in plan.kinds:
        name = "weights" if kind in ("timm", "safetensors") else "network"
        exported[kind] = export(training, kind, folder / f"{name}{ENDINGS[kind]}", force=True)
    root = None if settings.data_root is None else Path(settings.data_root)
    figures = evaluation_of(
        training, settings.data, root, 64, settings.workers, settings.skip_bad_images, settings.background,
        folder / "confusion.png", exported.get("onnx"),
    )  # fmt: skip
    write_atomically(folder / "evaluation.json", (json.dumps(figures, indent=1) + "\n").encode())
    print_evaluation(figures)
    for path in exported.values():
        print(path)
    write_atomically(folder / "report.html", (search / "report.html").read_bytes())
    print(folder / "report.html")
