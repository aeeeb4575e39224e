"""The configuration of a training, and its recipes: App. A.1's three, one that ends in minutes, one of today's."""

from dataclasses import asdict, dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from vaenas.documents import dotted
from vaenas.ranges import Fraction, NotNegative, Number, Pixels, Place, Positive
from vaenas.runs.config import OF_IMAGES, RunConfig


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a final network is trained from scratch."""

    epochs: Annotated[Number, Field(description="of training")]
    batch_size: Annotated[int, Field(ge=2, le=10**6, description="images a step")]
    learning_rate: Annotated[Positive, Field(description="highest one")]
    schedule: Annotated[Literal["linear", "cosine"], Field(description="how it falls to 0, a little each step")]
    warmup_epochs: Annotated[NotNegative, Field(description="in which it rises linearly from 0")] = 0.0
    momentum: Annotated[Fraction, Field(description="of SGD")] = 0.9
    nesterov: Annotated[bool, Field(description="Nesterov's momentum")] = False
    weight_decay: Annotated[NotNegative, Field(description="of SGD")]
    label_smoothing: Annotated[
        Fraction, Field(description="share of the target over all classes (Szegedy et al. 2016)")
    ] = 0.1
    clip_norm: Annotated[NotNegative, Field(description="largest norm of the gradient; 0 = not clipped")] = 0.0
    dropout: Annotated[Fraction, Field(description="before the classifier; shufflenet alone")] = 0.0
    auxiliary: Annotated[NotNegative, Field(description="weight of the auxiliary tower's loss; nasnet alone")] = 0.0
    drop_path: Annotated[Fraction, Field(description="of an edge, at the end; grows linearly; nasnet alone")] = 0.0
    padding: Annotated[int, Field(ge=0, le=64, description="pixels around an image before the crop; 0 = no crop")] = 4
    cutout: Annotated[Pixels, Field(description="side of the square cut out (DeVries 2017); 0 = none")] = 0
    inception: Annotated[
        bool, Field(description="crops of 8 to 100 % of the area, colour jitter (Szegedy et al. 2015)")
    ] = False
    rand_augment: Annotated[int, Field(ge=0, le=30, description="magnitude of RandAugment (Cubuk et al. 2020)")] = 0
    mixup: Annotated[NotNegative, Field(description="alpha of mixup (Zhang et al. 2018)")] = 0.0
    cutmix: Annotated[NotNegative, Field(description="alpha of CutMix (Yun et al. 2019); with both, either")] = 0.0
    distillation: Annotated[
        Fraction,
        Field(description="share of a teacher's answers in the loss (Hinton et al. 2015), where there is a teacher"),
    ] = 0.5
    temperature: Annotated[Positive, Field(description="that softens the teacher's and the network's answers")] = 1.0
    ema: Annotated[Fraction, Field(description="decay a step of the averaged weights that are kept; 0 = none")] = 0.0


RECIPES = {
    # For small images on two CPU cores: minutes, not days. No dropout: so short a training does not overfit.
    "quick": Recipe(
        epochs=15, batch_size=128, learning_rate=0.1, schedule="cosine", warmup_epochs=1.0, nesterov=True,
        weight_decay=5e-4, clip_norm=5.0,
    ),
    # App. A.1, CIFAR-10: 600 epochs, batch 48, label smoothing, auxiliary tower 0.4, drop path 0.2, cutout. The rest is
    # from "the common pipeline (Liu et al. 2018b)": SGD at 0.025 with a cosine to 0, momentum 0.9, weight decay 3e-4,
    # gradients clipped at 5, cutout of 16.
    "cifar10": Recipe(
        epochs=600, batch_size=48, learning_rate=0.025, schedule="cosine", weight_decay=3e-4, clip_norm=5.0,
        auxiliary=0.4, drop_path=0.2, cutout=16,
    ),
    # App. A.1, ShuffleNet-like on ImageNet: 480 epochs, batch 1024, SGD at 0.5 falling linearly each iteration,
    # momentum 0.9, weight decay 3e-5, label smoothing, dropout of 0.5 on the last layer, inception augmentation and no
    # other.
    "imagenet-shufflenet": Recipe(
        epochs=480, batch_size=1024, learning_rate=0.5, schedule="linear", weight_decay=3e-5, dropout=0.5, padding=0,
        inception=True,
    ),
    # App. A.1, NASNet-like on ImageNet: 300 epochs, batch 512, the same SGD, label smoothing, auxiliary tower 0.4,
    # inception augmentation. Width 48 and depth 14 are the network's: --width 48 --layers 14.
    "imagenet-nasnet": Recipe(
        epochs=300, batch_size=512, learning_rate=0.5, schedule="linear", weight_decay=3e-5, auxiliary=0.4, padding=0,
        inception=True,
    ),
    # What today's records have in common (Wightman et al. 2021, "ResNet strikes back"): long, warmed up, averaged
    # weights, RandAugment, mixup and CutMix. Not tuned here. For every space, so without drop path, which is nasnet's
    # alone (`--training.drop-path 0.1` adds it there).
    "modern": Recipe(
        epochs=600, batch_size=512, learning_rate=0.5, schedule="cosine", warmup_epochs=5.0, nesterov=True,
        weight_decay=3e-5, dropout=0.2, padding=0, inception=True, rand_augment=7, mixup=0.1, cutmix=1.0, ema=0.9998,
    ),
}  # fmt: skip


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
    training: Recipe = RECIPES["quick"]
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
