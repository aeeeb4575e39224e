"""The networks of NAS-Bench-Macro (Su et al. 2021), supernet and final network in one class."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vaenas.errors import UserError
from vaenas.networks.image_space import ImageSpace
from vaenas.networks.ops import conv_bn, depthwise_bn, scaled
from vaenas.networks.supernet import ChoiceBlock, NetworkConfig, Supernet
from vaenas.spaces.macro import LAYERS, OPERATIONS, macro_space

# Su et al. 2021: channels of the stem, of each layer and of the last convolution. A layer with more than before halves.
STEM, CHANNELS, LAST = 32, (64, 64, 128, 128, 128, 256, 256, 256), 1280
NARROWEST = 0.125
BLOCKS = {1: (3, 3), 2: (6, 5)}  # operation -> expansion, kernel


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


class Subsample(nn.Module):
    """Every second pixel, for a 1x1 convolution after it: the same as one with stride 2.

    Strided 1x1 convolutions of few channels (< 8 or 16) in channels-last layout write past their memory in the backward
    pass on CPUs (oneDNN, issue 6035).
    """

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, ⌈h / 2⌉, ⌈w / 2⌉)"""
        return x[:, :, ::2, ::2]


def _block(operation: int, inputs: int, outputs: int, stride: int) -> nn.Module:
    if operation in BLOCKS:
        return InvertedBottleneck(inputs, outputs, stride, *BLOCKS[operation])
    if stride == 1:
        return nn.Identity()
    return nn.Sequential(Subsample(), *conv_bn(inputs, outputs, 1))


class Macro(Supernet):
    """Stem, 8 choice blocks, last convolution, classifier."""

    def __init__(self, config: NetworkConfig, held: Sequence[Sequence[int]]) -> None:
        super().__init__(config)
        inputs, *channels, last = (scaled(c, config.width, 4, least=4) for c in (STEM, *CHANNELS, LAST))
        self.stem = nn.Sequential(*conv_bn(config.image_channels, inputs, 3), nn.ReLU(inplace=True))
        self.layers = nn.ModuleList()
        for slot, outputs in enumerate(channels):
            stride = 1 if CHANNELS[slot] == (STEM, *CHANNELS)[slot] else 2
            self.layers.append(ChoiceBlock({o: _block(o, inputs, outputs, stride) for o in held[slot]}))
            inputs = outputs
        self.head = nn.Sequential(*conv_bn(inputs, last, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(last, config.classes))
        self.to(memory_format=torch.channels_last)


class MacroImageSpace(ImageSpace):
    """8 layers; images of 32 pixels and width 1.0 are the benchmark's."""

    name, network_class, title = "macro", Macro, "NAS-Bench-Macro network"
    default_width, default_layers = 0.25, LAYERS
    width_rule = NARROWEST, 0, "1 = the benchmark's"
    widths = (1.0, 0.75, 0.5, 0.375, 0.25)
    space = macro_space()
    operation_names = OPERATIONS

    @classmethod
    def checked(cls, config: NetworkConfig) -> NetworkConfig:
        if config.layers != LAYERS:
            raise UserError(f"layers {config.layers}: space macro has {LAYERS}; leave it out")
        return super().checked(config)
