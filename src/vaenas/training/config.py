"""The configuration of a training: a recipe, the network that it trains, the images, perhaps a teacher."""

from dataclasses import asdict, dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from vaenas.documents import dotted
from vaenas.ranges import Number, Place
from vaenas.runs.config import OF_IMAGES, RunConfig
from vaenas.training.recipes import QUICK, RECIPES, Recipe


@dataclass(frozen=True)
class TeacherSettings:
    """A model to learn from."""

    model: Annotated[
        str | None,
        Field(
            description="timm's name of a model to learn from, such as resnet18; it sees images normalised as its own "
            "config says, and enlarged to the size there"
        ),
    ] = None
    weights: Annotated[Place | None, Field(description="its weights: a .safetensors file, or torch's plain ones")] = (
        None
    )


class TrainConfig(RunConfig):
    """Settings of `vaenas train`, nested as in the YAML file."""

    preset_by: ClassVar = "recipe"
    presets: ClassVar = {name: dotted({"training": asdict(recipe)}) for name, recipe in RECIPES.items()}
    idle: ClassVar = (
        *OF_IMAGES,
        ("training.distillation training.temperature", lambda c: c.teacher.model is None, "without a teacher"),
        ("training.dropout", lambda c: not c.image_space().has_dropout, "but in space shufflenet"),
    )

    recipe: Literal["quick", "cifar10", "imagenet-shufflenet", "imagenet-nasnet", "modern"] = Field(
        "quick", description="preset of the settings of `training`, each of which may be given beside it"
    )
    code: str = Field("", description="the architecture, as `vaenas search` writes it; instead of CODE|RUN")
    search: str | None = Field(None, description="the run that found the architecture, for the record")
    training: Recipe = QUICK
    shards: Place | None = Field(
        None, description="index of WebDataset shards to train on; --data then only gives classes and test images"
    )
    teacher: TeacherSettings = TeacherSettings()
    evaluate_every: Number = Field(5, description="epochs between evaluations; one is at the end in any case")

    def check(self) -> None:
        super().check()
        if not self.code:
            raise ValueError("code: missing: give an architecture's code, or the run that found one")
        for name in ("auxiliary", "drop_path"):
            value = getattr(self.training, name)
            if value and not self.image_space().has_auxiliary:
                raise ValueError(f"training.{name}: {value} is for space nasnet alone, not for {self.space}; give 0")
        if (self.teacher.model is None) != (self.teacher.weights is None):
            one, other = ("model", "weights") if self.teacher.model is None else ("weights", "model")
            raise ValueError(f"teacher.{other}: needs teacher.{one}, too; give both, or neither")
        if self.shards is not None and self.train_images is not None:
            raise ValueError(f"train_images: {self.train_images} does not go with shards, which are read as a stream")
