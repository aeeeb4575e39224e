"""The network of the ShuffleNet-like space: supernet and final network are one class (App. A.4, Fig. 3)."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from vaenas.networks.drawing import Drawing, Stage, chain
from vaenas.networks.image_space import ImageSpace
from vaenas.networks.network_config import NetworkConfig, check_width
from vaenas.networks.ops import ShuffleBlock, align, conv_bn
from vaenas.networks.supernet import ChoiceBlock, Supernet
from vaenas.spaces.shufflenet import OPERATIONS, shufflenet_space, stage_layers

# Single Path One-Shot (Guo et al. 2019, Table 1): channels of the stem, the four stages and the last convolution.
STEM, STAGES, LAST = 16, (64, 160, 320, 640), 1024
NARROWEST = 0.125  # below it two stages would get equally many channels, and a block with stride 2 nothing to add
DROPOUT = 0.5  # App. A.1, on the last fully connected layer


def channels_of(published: int, width: float) -> int:
    """A channel count of the paper at this width: the nearest multiple of 8 (halves up), in the stages >= 16."""
    return max(8 if published == STEM else 16, 8 * math.floor(published * width / 8 + 0.5))


class ShuffleNet(Supernet):
    """Stem, choice blocks in four stages, last convolution, classifier."""

    def __init__(self, config: NetworkConfig, held: Sequence[Sequence[int]]) -> None:
        super().__init__(config)
        channels = channels_of(STEM, config.width)
        stride = 2 if config.large_images else 1
        self.stem = nn.Sequential(*conv_bn(config.image_channels, channels, 3, stride), nn.ReLU(inplace=True))
        self.layers = nn.ModuleList()
        for stage, repeats in zip(STAGES, stage_layers(config.layers), strict=True):
            width = channels_of(stage, config.width)
            for i in range(repeats):
                shape = (channels, width, 2 if i == 0 else 1)
                blocks = {o: ShuffleBlock(*shape, operation=o) for o in held[len(self.layers)]}
                align(list(blocks.values()))
                self.layers.append(ChoiceBlock(blocks))
                channels = width
        last = channels_of(LAST, config.width)
        self.head = nn.Sequential(*conv_bn(channels, last, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(DROPOUT), nn.Linear(last, config.classes))
        self.to(memory_format=torch.channels_last)


class ShuffleNetImageSpace(ImageSpace):
    """20 layers and width 1.0 are the paper's."""

    name, network_class = "shufflenet", ShuffleNet
    default_width, default_layers = 0.25, 10
    widths = (1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25)
    operation_names = OPERATIONS
    has_dropout = True

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        self.space = shufflenet_space(config.layers)

    @classmethod
    def checked(cls, config: NetworkConfig) -> NetworkConfig:
        stage_layers(config.layers)
        check_width(cls.name, config.width, NARROWEST, "stages must grow by 8 channels each; 1 = the paper's")
        return super().checked(config)

    @classmethod
    def layers_of(cls, code: str) -> int:
        """A layer for each symbol."""
        return sum(map(len, code.split("-")))

    def drawing(self, architecture: Int64[Tensor, "s"]) -> Drawing:
        """As in Fig. 3: stages with the shapes of their outputs."""
        config, (stem, *stages, last) = self.config, [channels_of(c, self.config.width) for c in (STEM, *STAGES, LAST)]
        stride = 2 if config.large_images else 1
        size = config.image_size // stride
        groups = []
        for stage, (channels, repeats) in enumerate(zip(stages, stage_layers(config.layers), strict=True)):
            size = -(-size // 2)
            groups.append(Stage(f"stage {stage + 1}", f"{channels} × {size} × {size}", repeats))
        before = [f"Conv 3×3, {stem}" + (", stride 2" if stride == 2 else "")]
        after = [f"Conv 1×1, {last}", "Global pool", f"Dropout {DROPOUT}"]
        return chain(
            "ShuffleNet-like network", config, self.space, self.operation_names, groups, architecture, before, after
        )
