"""Training recipes as data: App. A.1's three, one that ends in minutes, and one of today's."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from vaenas.ranges import Fraction, NotNegative, Number, Pixels, Positive


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


# App. A.1, CIFAR-10: 600 epochs, batch 48, label smoothing, auxiliary tower 0.4, drop path 0.2, cutout. The rest is
# from "the common pipeline (Liu et al. 2018b)": SGD at 0.025 with a cosine to 0, momentum 0.9, weight decay 3e-4,
# gradients clipped at 5, cutout of 16.
CIFAR10 = Recipe(
    epochs=600, batch_size=48, learning_rate=0.025, schedule="cosine", weight_decay=3e-4, clip_norm=5.0, auxiliary=0.4,
    drop_path=0.2, cutout=16,
)  # fmt: skip

# App. A.1, ShuffleNet-like on ImageNet: 480 epochs, batch 1024, SGD at 0.5 falling linearly each iteration, momentum
# 0.9, weight decay 3e-5, label smoothing, dropout of 0.5 on the last layer, inception augmentation and no other.
IMAGENET_SHUFFLENET = Recipe(
    epochs=480, batch_size=1024, learning_rate=0.5, schedule="linear", weight_decay=3e-5, dropout=0.5, padding=0,
    inception=True,
)  # fmt: skip

# App. A.1, NASNet-like on ImageNet: 300 epochs, batch 512, the same SGD, label smoothing, auxiliary tower 0.4,
# inception augmentation. Width 48 and depth 14 are the network's: --width 48 --layers 14.
IMAGENET_NASNET = Recipe(
    epochs=300, batch_size=512, learning_rate=0.5, schedule="linear", weight_decay=3e-5, auxiliary=0.4, padding=0,
    inception=True,
)  # fmt: skip

# For small images on two CPU cores: minutes, not days. No dropout: so short a training does not overfit.
QUICK = Recipe(
    epochs=15, batch_size=128, learning_rate=0.1, schedule="cosine", warmup_epochs=1.0, nesterov=True,
    weight_decay=5e-4, clip_norm=5.0,
)  # fmt: skip

# What today's records have in common (Wightman et al. 2021, "ResNet strikes back"): long, warmed up, averaged weights,
# RandAugment, mixup and CutMix. Not tuned here. For every space, so without drop path, which is nasnet's alone
# (`--drop-path 0.1` adds it there).
MODERN = Recipe(
    epochs=600, batch_size=512, learning_rate=0.5, schedule="cosine", warmup_epochs=5.0, nesterov=True,
    weight_decay=3e-5, dropout=0.2, padding=0, inception=True, rand_augment=7, mixup=0.1, cutmix=1.0, ema=0.9998,
)  # fmt: skip

RECIPES = {
    "quick": QUICK, "cifar10": CIFAR10, "imagenet-shufflenet": IMAGENET_SHUFFLENET, "imagenet-nasnet": IMAGENET_NASNET,
    "modern": MODERN,
}  # fmt: skip
