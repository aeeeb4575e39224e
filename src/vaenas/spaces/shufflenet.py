"""The ShuffleNet-like space (App. A.4): 20 layers, each one of four ShuffleNetV2 blocks: 4^20 networks."""

import math
from dataclasses import dataclass
from typing import Any

from jaxtyping import Int64
from torch import Tensor

from vaenas.errors import UserError
from vaenas.spaces.geometry import check_images, check_width
from vaenas.spaces.space import SearchSpace

OPERATIONS = ("Shuffle 3x3", "Shuffle 5x5", "Shuffle 7x7", "Shuffle Xception 3x3")
SYMBOLS = "357x"

# Single Path One-Shot (Guo et al. 2019, Table 1): channels of the stem, the four stages and the last convolution.
STEM, STAGES, LAST = 16, (64, 160, 320, 640), 1024
STAGE_SHARES = (1, 1, 2, 1)  # of the layers: 4/4/8/4 of 20

NARROWEST = 0.125  # below it two stages would get equally many channels, and a block with stride 2 nothing to add
LARGE_IMAGE = 96  # from this size on the stem halves the image, as at 224; smaller images keep their pixels


@dataclass(frozen=True)
class ShuffleNetGeometry:
    """Everything about the network but the choice of operations.

    Args:
        image_size: side of the square input in pixels, >= 16. Below 96 the stem has stride 1 (small-image
            geometry, 28-64 px), else stride 2 (ImageNet geometry, 224 px).
        image_channels: 1 or 3.
        classes: number of classes, >= 2.
        width: multiplies all channels, rounded to multiples of 8, >= 0.125; 1.0 is the paper's.
        layers: number of choice blocks, a multiple of 5, divided 1:1:2:1 among the stages; 20 is the paper's.
    """

    image_size: int = 224
    image_channels: int = 3
    classes: int = 1000
    width: float = 1.0
    layers: int = 20

    def __post_init__(self) -> None:
        if self.layers < 5 or self.layers % 5:
            raise UserError(f"layers {self.layers}: space shufflenet takes multiples of 5 (20 is the paper's)")
        check_width("shufflenet", self.width, NARROWEST, "stages must grow by 8 channels each; 1 = the paper's")
        check_images("shufflenet", self.image_size, self.image_channels, self.classes)

    @property
    def stem_stride(self) -> int:
        return 2 if self.image_size >= LARGE_IMAGE else 1

    @property
    def repeats(self) -> tuple[int, ...]:
        """Layers of each stage."""
        return tuple(share * self.layers // sum(STAGE_SHARES) for share in STAGE_SHARES)

    def channels(self, paper: int) -> int:
        """A channel count of the paper at this width: the nearest multiple of 8 (halves up), in the stages >= 16."""
        return max(8 if paper == STEM else 16, 8 * math.floor(paper * self.width / 8 + 0.5))


def shufflenet_space(layers: int = 20) -> SearchSpace:
    """The search space; `layers` as in `ShuffleNetGeometry`. Codes look like "3357-x357-33355777-xxxx"."""
    repeats = ShuffleNetGeometry(layers=layers).repeats
    return SearchSpace("shufflenet", operations=(SYMBOLS,) * layers, groups=repeats)


def drawing(geometry: ShuffleNetGeometry, architecture: Int64[Tensor, "s"]) -> dict[str, Any]:
    """What a picture of an architecture (s,) needs, as Fig. 3 shows it: stages, output shapes, operations."""
    operations = iter(enumerate(architecture.tolist()))
    size = geometry.image_size // geometry.stem_stride
    groups = []
    for stage, (channels, repeats) in enumerate(zip(STAGES, geometry.repeats, strict=True)):
        size = -(-size // 2)
        slots = [dict(zip(("slot", "operation"), next(operations), strict=True)) for _ in range(repeats)]
        output = f"{geometry.channels(channels)} × {size} × {size}"
        groups.append({"name": f"stage {stage + 1}", "output": output, "slots": slots})
    stem = f"Conv 3×3, {geometry.channels(STEM)}" + (", stride 2" if geometry.stem_stride == 2 else "")
    return {
        "title": "ShuffleNet-like network",
        "input": f"{geometry.image_channels} × {geometry.image_size} × {geometry.image_size}",
        "before": [stem],
        "groups": groups,
        "after": [f"Conv 1×1, {geometry.channels(LAST)}", "Global pool", "Dropout 0.5", f"Linear {geometry.classes}"],
        "operations": [{"symbol": s, "name": name} for s, name in zip(SYMBOLS, OPERATIONS, strict=True)],
    }
