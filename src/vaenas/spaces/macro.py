"""NAS-Bench-Macro (Su et al. 2021): 8 layers, each one of three blocks: 6,561 networks."""

import math
from dataclasses import dataclass
from typing import Any

from jaxtyping import Int64
from torch import Tensor

from vaenas.spaces.geometry import check_fixed, check_images, check_width
from vaenas.spaces.space import SearchSpace

OPERATIONS = ("Identity", "MB3_K3", "MB6_K5")  # inverted bottlenecks: expansion 3, kernel 3; expansion 6, kernel 5
# Su et al. 2021: channels of the stem, of each layer and of the last convolution. A layer with more than before halves.
STEM, LAYERS, LAST = 32, (64, 64, 128, 128, 128, 256, 256, 256), 1280

NARROWEST = 0.125


@dataclass(frozen=True)
class MacroGeometry:
    """Everything about the network but the choice of operations.

    Args:
        image_size: side of the square input in pixels, >= 16; 32 is the benchmark's.
        image_channels: 1 or 3.
        classes: number of classes, >= 2.
        width: multiplies all channels, rounded to multiples of 4, >= 0.125; 1 is the benchmark's.
        layers: 8.
    """

    image_size: int = 32
    image_channels: int = 3
    classes: int = 10
    width: float = 1.0
    layers: int = len(LAYERS)

    def __post_init__(self) -> None:
        check_fixed("macro", self.layers, len(LAYERS))
        check_width("macro", self.width, NARROWEST, "1 = the benchmark's")
        check_images("macro", self.image_size, self.image_channels, self.classes)

    def channels(self, published: int) -> int:
        """A channel count of the benchmark at this width: the nearest multiple of 4 (halves up)."""
        return max(4, 4 * math.floor(published * self.width / 4 + 0.5))


def macro_space() -> SearchSpace:
    """The search space; codes are the table's own keys, like "02012100"."""
    return SearchSpace("macro", operations=("012",) * len(LAYERS), groups=(len(LAYERS),))


def drawing(geometry: MacroGeometry, architecture: Int64[Tensor, "8"]) -> dict[str, Any]:
    """What a picture of a network needs: stages, output shapes, operations."""
    groups: list[dict[str, Any]] = []
    before, size = STEM, geometry.image_size
    for slot, (channels, operation) in enumerate(zip(LAYERS, architecture.tolist(), strict=True)):
        if channels != before:
            before, size = channels, -(-size // 2)
            output = f"{geometry.channels(channels)} × {size} × {size}"
            groups.append({"name": f"stage {len(groups) + 1}", "output": output, "slots": []})
        groups[-1]["slots"].append({"slot": slot, "operation": operation})
    return {
        "title": "NAS-Bench-Macro network",
        "input": f"{geometry.image_channels} × {geometry.image_size} × {geometry.image_size}",
        "before": [f"Conv 3×3, {geometry.channels(STEM)}"],
        "groups": groups,
        "after": [f"Conv 1×1, {geometry.channels(LAST)}", "Global pool", f"Linear {geometry.classes}"],
        "operations": [{"symbol": str(i), "name": name} for i, name in enumerate(OPERATIONS)],
    }
