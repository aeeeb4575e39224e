"""`vaenas run`: what happens around its search, from the choice of a width to the exported network."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from vaenas.errors import UserError
from vaenas.export.export import ENDINGS, check_format, export
from vaenas.files import write_atomically
from vaenas.network_commands import evaluation_of, found_by, print_evaluation, train_to_its_end
from vaenas.networks.image_spaces import IMAGE_SPACES
from vaenas.parallel import is_main
from vaenas.runs.command import check_kept
from vaenas.runs.config import SearchConfig
from vaenas.runs.images import load_data
from vaenas.runs.search_parts import search_space
from vaenas.search.limits import Limits, uniform_proposals
from vaenas.training.config import TrainConfig, make_train_config

PLAN = "run.yaml"


@dataclass(frozen=True)
class Plan:
    """What follows the search."""

    recipe: str = "quick"
    train_epochs: int | None = None
    formats: str = "onnx"  # with commas between

    @property
    def kinds(self) -> list[str]:
        return [kind.strip() for kind in self.formats.split(",")]

    def training(self, found: dict[str, Any]) -> TrainConfig:
        """Settings of the training; raises `UserError` for a recipe or number of epochs that there is not."""
        epochs = {} if self.train_epochs is None else {"epochs": self.train_epochs}
        return make_train_config({**found, "recipe": self.recipe, **epochs})

    def keep(self, folder: Path, wanted: "Plan") -> None:
        """Raises `UserError` if the user, who resumes the run in `folder`, asks for something else."""
        for name, usual in asdict(Plan()).items():
            value = getattr(wanted, name)
            if value != usual:  # given
                check_kept(folder, name, getattr(self, name), value)

    def check(self, settings: SearchConfig) -> None:
        """Raises `UserError` for what would stop the run after its search."""
        for kind in self.kinds:
            check_format(kind)  # also whether its packages are there: not after hours of search
        # Any code will do: the found one is not known yet, and only the training itself reads it.
        self.training({"code": "-", "space": settings.space, "width": settings.width, "layers": settings.layers})


def read_plan(folder: Path) -> Plan:
    """The plan that a run in `folder` was begun with.

    Raises:
        UserError: there is none.
    """
    try:
        return Plan(**yaml.safe_load((folder / PLAN).read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError):
        raise UserError(f"--resume {folder}: no run of `vaenas run` is in it ({PLAN} cannot be read)") from None


def with_widest_fit(settings: SearchConfig, given: dict[str, Any]) -> SearchConfig:
    """The settings with the widest network of which half the space keeps the limits, where no width is given."""
    if "width" in given or (settings.max_flops is None and settings.max_params is None):
        return settings
    image_space, train, layers = IMAGE_SPACES[settings.space], load_data(settings).train, settings.layers
    assert layers is not None
    sizes = train.image_size, train.channels, len(train.classes)

    def fits(width: float) -> bool:
        geometry = image_space.geometry(*sizes, width, layers)
        limits = Limits(image_space.cost(geometry), settings.max_flops, settings.max_params)
        space = search_space(settings, geometry)
        keeping = limits.accept(uniform_proposals(space, settings.seed)(500))
        return float(keeping.float().mean()) >= 0.5

    widths = image_space.widths
    return settings.model_copy(update={"width": next(filter(fits, widths), widths[-1])})


def finish(plan: Plan, folder: Path, again: str) -> None:
    """Trains what the search in `folder` found, tests it, exports it; everything lies in `folder` at the end."""
    search, training = folder / "search", folder / "training"
    resumes = (training / "config.yaml").exists()
    settings = plan.training(found_by(str(search)))
    train_to_its_end(settings, training, resumes, again)
    if not is_main():
        return
    exported: dict[str, Path] = {}
    for kind in plan.kinds:
        name = "weights" if kind in ("timm", "safetensors") else "network"
        exported[kind] = export(training, kind, folder / f"{name}{ENDINGS[kind]}")
    root = None if settings.data_root is None else Path(settings.data_root)
    figures = evaluation_of(
        training, settings.data, root, 64, settings.workers, settings.skip_bad_images, settings.background,
        folder / "confusion.png", exported.get("onnx"),
    )  # fmt: skip
    write_atomically(folder / "evaluation.json", (json.dumps(figures, indent=1) + "\n").encode())
    print_evaluation(figures)
    for path in exported.values():
        print(path)
    shutil.copyfile(search / "report.html", folder / "report.html")
    print(folder / "report.html")


def write_plan(plan: Plan, folder: Path) -> None:
    """So that a resumed run goes on with it."""
    write_atomically(folder / PLAN, yaml.safe_dump(asdict(plan)).encode())
