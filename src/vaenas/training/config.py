"""All settings of `vaenas train`: a recipe, the network that it trains, and the images."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from vaenas.data.folder import Background
from vaenas.documents import read_yaml
from vaenas.networks import space_class
from vaenas.networks.space_file import with_space_file
from vaenas.runs.config import (
    OF_IMAGES,
    Idle,
    SpaceName,
    checked_space,
    refuse_idle,
    resolved,
    validated,
    with_default_size,
)
from vaenas.training.recipes import RECIPES, Recipe

OF_TRAINING: Idle = (
    ("distillation temperature", lambda c: c.teacher is None, "without a teacher"),
    ("dropout", lambda c: not space_class(c.space).has_dropout, "but in space shufflenet"),
)


class TrainConfig(Recipe):
    """Settings of `vaenas train`: each a YAML key and, with dashes, a command-line option."""

    recipe: Literal["quick", "cifar10", "imagenet-shufflenet", "imagenet-nasnet", "modern"] = Field(
        "quick", description="preset of the settings above, each of which may be given beside it"
    )
    code: str = Field("", description="the architecture, as `vaenas search` writes it; instead of CODE|RUN")
    space: SpaceName = Field("shufflenet", description="of the architecture")
    space_file: str | None = Field(None, description="Python file that registers a space of your own")
    width: float | None = Field(
        None, gt=0, le=1024, description="shufflenet, macro: multiplies all channels (0.25); others: channels (8; 16)"
    )
    layers: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="shufflenet: choice blocks (10); nasnet: cells (5); nasbench: cells a stage",
    )
    search: str | None = Field(None, description="the run that found the architecture, for the record")
    data: str = Field("builtin", description="builtin, cifar10, or a folder with train/<class>/<image>")
    data_root: str | None = Field(None, description="where CIFAR-10 is: its folder or tar, or a folder with either")
    download: bool = Field(False, description="fetch CIFAR-10 if it is missing")
    skip_bad_images: bool = Field(False, description="leave out images that cannot be read")
    background: Background = Field("white", description="of a folder: what transparent images are put on")
    workers: int = Field(
        0, ge=0, le=256, description="of a folder: decode each batch anew in so many; 0 = once, into a cache"
    )
    shards: str | None = Field(
        None, description="index of WebDataset shards to train on; --data then only gives classes and test images"
    )
    image_size: int | None = Field(
        None,
        ge=16,
        le=1024,
        description="side in pixels: of a folder (default 64), or fewer than builtin (28) and cifar10 (32) have",
    )
    train_images: int | None = Field(None, ge=2, le=10**9, description="use only so many images to train on (all)")
    teacher: str | None = Field(
        None,
        description="timm's name of a model to learn from, such as resnet18; it sees images normalised as its own "
        "config says, and enlarged to the size there",
    )
    teacher_weights: str | None = Field(None, description="its weights: a .safetensors file, or torch's plain ones")
    seed: int = Field(0, ge=0, lt=2**31, description="of every random number")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where the network is trained")
    precision: Literal["32-true", "bf16-mixed"] = Field("32-true", description="as in Lightning Fabric")
    evaluate_every: int = Field(
        5, ge=1, le=10**6, description="epochs between evaluations; one is at the end in any case"
    )
    log_interval: int = Field(10, ge=1, le=10**6, description="steps between lines of metrics")
    checkpoint_seconds: float = Field(30.0, ge=0, le=1e6, description="between checkpoints")

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Settings that follow from others are written out, so that `config.yaml` says what was run."""
        # An unknown one is named by its own field's check, so the others need values.
        recipe = RECIPES.get(str(values.get("recipe")), RECIPES["quick"])
        values = {**recipe.model_dump(), **values}
        return resolved(with_default_size(values, cls.model_fields["space"].default))

    @model_validator(mode="after")
    def _agree(self) -> "TrainConfig":
        space = checked_space(self.space, self.width, self.layers)
        if not self.code:
            raise ValueError("code: missing: give an architecture's code, or the run that found one")
        if not space.has_auxiliary and (self.auxiliary or self.drop_path):
            name = "auxiliary" if self.auxiliary else "drop_path"
            raise ValueError(f"{name}: {getattr(self, name)} is for space nasnet alone, not for {self.space}; give 0")
        if (self.teacher is None) != (self.teacher_weights is None):
            one, other = ("teacher", "teacher_weights") if self.teacher is None else ("teacher_weights", "teacher")
            raise ValueError(f"{other}: needs {one.replace('_', '-')}, too; give both, or neither")
        if self.shards is not None and self.train_images is not None:
            raise ValueError(f"train_images: {self.train_images} does not go with shards, which are read as a stream")
        refuse_idle(self, (*OF_IMAGES, *OF_TRAINING), RECIPES[self.recipe].model_dump())
        return self


def make_train_config(options: dict[str, Any], file: Path | None = None) -> TrainConfig:
    """Settings from the command line, before those of a YAML file, before the recipe's.

    Raises:
        UserError: names the first setting that is unknown or wrong, its place and what is allowed.
    """
    from_file = read_yaml(file) if file else {}
    options = with_space_file(options, from_file)
    if options.get("recipe", from_file.get("recipe")) != from_file.get("recipe"):  # the file has another's written out
        from_file = {name: value for name, value in from_file.items() if name not in Recipe.model_fields}
    return validated(TrainConfig, options, from_file, file)
