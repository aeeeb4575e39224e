"""The networks of NAS-Bench-Macro (Su et al. 2021), supernet and final network in one class."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vaenas.networks.cost import additive_cost
from vaenas.networks.image_space import ImageSpace
from vaenas.networks.ops import Subsample, conv_bn, depthwise_bn
from vaenas.networks.supernet import ChoiceBlock, Supernet
from vaenas.spaces.macro import LAST, LAYERS, OPERATIONS, STEM, MacroGeometry, drawing, macro_space

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


def _block(operation: int, inputs: int, outputs: int, stride: int) -> nn.Module:
    if operation in BLOCKS:
        return InvertedBottleneck(inputs, outputs, stride, *BLOCKS[operation])
    if stride == 1:
        return nn.Identity()
    return nn.Sequential(Subsample(stride), *conv_bn(inputs, outputs, 1))


class Macro(Supernet):
    """Stem, 8 choice blocks, last convolution, classifier.

    Args:
        geometry: image size, classes, width.
        allowed: for each layer the operations that it holds: all three = the supernet, one = a final network.
    """

    def __init__(self, geometry: MacroGeometry, allowed: Sequence[Sequence[int]] | None = None) -> None:
        super().__init__()
        self.geometry = geometry
        allowed = allowed or [range(len(OPERATIONS))] * len(LAYERS)
        self.input_shape = (geometry.image_channels, geometry.image_size, geometry.image_size)
        inputs = geometry.channels(STEM)
        self.stem = nn.Sequential(*conv_bn(geometry.image_channels, inputs, 3), nn.ReLU(inplace=True))
        self.layers = nn.ModuleList()
        for before, published, held in zip((STEM, *LAYERS), LAYERS, allowed, strict=False):
            outputs, stride = geometry.channels(published), 1 if published == before else 2
            self.layers.append(ChoiceBlock({o: _block(o, inputs, outputs, stride) for o in held}))
            inputs = outputs
        last = geometry.channels(LAST)
        self.head = nn.Sequential(*conv_bn(inputs, last, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(last, geometry.classes))
        self.to(memory_format=torch.channels_last)


IMAGE_SPACE = ImageSpace(
    geometry=MacroGeometry,
    space=lambda geometry: macro_space(),
    network=Macro,
    cost=lambda geometry: additive_cost(lambda: Macro(geometry)),
    drawing=drawing,
    width=0.25,
    layers=len(LAYERS),
    widths=(1.0, 0.75, 0.5, 0.375, 0.25),
)
