"""The network of the ShuffleNet-like space: supernet and final network are one class (App. A.4, Fig. 3)."""

from collections.abc import Sequence

import torch
from torch import nn

from vaenas.networks.cost import additive_cost
from vaenas.networks.image_space import ImageSpace
from vaenas.networks.ops import ShuffleBlock, align, conv_bn
from vaenas.networks.supernet import ChoiceBlock, Supernet
from vaenas.spaces.shufflenet import (
    LAST,
    OPERATIONS,
    STAGES,
    STEM,
    ShuffleNetGeometry,
    drawing,
    shufflenet_space,
)

DROPOUT = 0.5  # App. A.1, on the last fully connected layer


class ShuffleNet(Supernet):
    """Stem, 20 choice blocks in four stages, last convolution, classifier.

    Args:
        geometry: image size, classes, width, layers.
        allowed: for each layer the operations that it holds: all four = the supernet, one = a final network.
    """

    def __init__(self, geometry: ShuffleNetGeometry, allowed: Sequence[Sequence[int]] | None = None) -> None:
        super().__init__()
        self.geometry = geometry
        allowed = allowed or [range(len(OPERATIONS))] * geometry.layers
        channels = geometry.channels(STEM)
        self.input_shape = (geometry.image_channels, geometry.image_size, geometry.image_size)
        self.stem = nn.Sequential(
            *conv_bn(geometry.image_channels, channels, 3, geometry.stem_stride), nn.ReLU(inplace=True)
        )
        self.layers = nn.ModuleList()
        for stage, repeats in zip(STAGES, geometry.repeats, strict=True):
            width = geometry.channels(stage)
            for i in range(repeats):
                shape = (channels, width, 2 if i == 0 else 1)
                operations = allowed[len(self.layers)]
                blocks = {o: ShuffleBlock(*shape, operation=o) for o in operations}
                align(list(blocks.values()))
                self.layers.append(ChoiceBlock(blocks))
                channels = width
        last = geometry.channels(LAST)
        self.head = nn.Sequential(*conv_bn(channels, last, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(DROPOUT), nn.Linear(last, geometry.classes))
        self.to(memory_format=torch.channels_last)


IMAGE_SPACE = ImageSpace(
    geometry=ShuffleNetGeometry,
    space=lambda geometry: shufflenet_space(geometry.layers),
    network=ShuffleNet,
    cost=lambda geometry: additive_cost(lambda: ShuffleNet(geometry)),
    drawing=drawing,
    width=0.25,
    layers=10,
    widths=(1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25),
)
