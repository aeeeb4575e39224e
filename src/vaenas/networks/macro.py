"""The networks of NAS-Bench-Macro (Su et al. 2021), supernet and final network in one class."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from vaenas.errors import UserError
from vaenas.networks.drawing import Drawing, Stage, chain
from vaenas.networks.image_space import ImageSpace
from vaenas.networks.network_config import NetworkConfig, check_width
from vaenas.networks.ops import Subsample, conv_bn, depthwise_bn
from vaenas.networks.supernet import ChoiceBlock, Supernet
from vaenas.spaces.macro import LAYERS, OPERATIONS, macro_space

# Su et al. 2021: channels of the stem, of each layer and of the last convolution. A layer with more than before halves.
STEM, CHANNELS, LAST = 32, (64, 64, 128, 128, 128, 256, 256, 256), 1280
NARROWEST = 0.125
BLOCKS = {1: (3, 3), 2: (6, 5)}  # operation -> expansion, kernel


def channels_of(published: int, width: float) -> int:
    """A channel count of the benchmark at this width: the nearest multiple of 4 (halves up)."""
    return max(4, 4 * math.floor(published * width / 4 + 0.5))


class InvertedBottleneck(nn.Module):
    """Expand, depthwise convolution, project; the input is added where it has the output's shape."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int, kernel: int) -> None:
        super().__init__()
        middle = expansion * inputs
        self.branch = nn.Sequential(
            *conv_bn(inputs, middle, 1), nn.ReLU(inplace=True),
            *depthwise_bn(middle, kernel, stride), nn.ReLU(inplace=True),
            *conv_bn(middle, outputs, 1),
        )  # fmt: skip
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(b, inputs, h, w) -> (b, outputs, ⌈h / stride⌉, ⌈w / stride⌉)"""
        return x + self.branch(x) if self.residual else self.branch(x)


def _block(operation: int, inputs: int, outputs: int, stride: int) -> nn.Module:
    if operation in BLOCKS:
        return InvertedBottleneck(inputs, outputs, stride, *BLOCKS[operation])
    if stride == 1:
        return nn.Identity()
    return nn.Sequential(Subsample(stride), *conv_bn(inputs, outputs, 1))


class Macro(Supernet):
    """Stem, 8 choice blocks, last convolution, classifier."""

    def __init__(self, config: NetworkConfig, held: Sequence[Sequence[int]]) -> None:
        super().__init__(config)
        inputs = channels_of(STEM, config.width)
        self.stem = nn.Sequential(*conv_bn(config.image_channels, inputs, 3), nn.ReLU(inplace=True))
        self.layers = nn.ModuleList()
        for before, published, of_slot in zip((STEM, *CHANNELS), CHANNELS, held, strict=False):
            outputs, stride = channels_of(published, config.width), 1 if published == before else 2
            self.layers.append(ChoiceBlock({o: _block(o, inputs, outputs, stride) for o in of_slot}))
            inputs = outputs
        last = channels_of(LAST, config.width)
        self.head = nn.Sequential(*conv_bn(inputs, last, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(last, config.classes))
        self.to(memory_format=torch.channels_last)


class MacroImageSpace(ImageSpace):
    """8 layers; images of 32 pixels and width 1.0 are the benchmark's."""

    name, network_class = "macro", Macro
    default_width, default_layers = 0.25, LAYERS
    widths = (1.0, 0.75, 0.5, 0.375, 0.25)
    space = macro_space()
    operation_names = OPERATIONS

    @classmethod
    def checked(cls, config: NetworkConfig) -> NetworkConfig:
        if config.layers != LAYERS:
            raise UserError(f"layers {config.layers}: space macro has {LAYERS}; leave it out")
        check_width(cls.name, config.width, NARROWEST, "1 = the benchmark's")
        return super().checked(config)

    def drawing(self, architecture: Int64[Tensor, "8"]) -> Drawing:
        """Stages with the shapes of their outputs."""
        config, size, stages = self.config, self.config.image_size, []
        for published in dict.fromkeys(CHANNELS):
            size = -(-size // 2)
            output = f"{channels_of(published, config.width)} × {size} × {size}"
            stages.append(Stage(f"stage {len(stages) + 1}", output, CHANNELS.count(published)))
        before, last = [f"Conv 3×3, {channels_of(STEM, config.width)}"], channels_of(LAST, config.width)
        after = [f"Conv 1×1, {last}", "Global pool"]
        names = self.operation_names
        return chain("NAS-Bench-Macro network", config, self.space, names, stages, architecture, before, after)
