"""The network of the ShuffleNet-like space: supernet and final network are one class (App. A.4, Fig. 3)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation

from vaenas.networks.image_space import ImageSpace
from vaenas.networks.ops import conv_bn, depthwise_bn, scaled
from vaenas.networks.supernet import ChoiceBlock, NetworkConfig, Supernet
from vaenas.spaces.shufflenet import OPERATIONS, shufflenet_space, stage_layers

# Single Path One-Shot (Guo et al. 2019, Table 1): channels of the stem, the four stages and the last convolution.
STEM, STAGES, LAST = 16, (64, 160, 320, 640), 1024
NARROWEST = 0.125  # below it two stages would get equally many channels, and a block with stride 2 nothing to add
DROPOUT = 0.5  # App. A.1, on the last fully connected layer
SQUEEZE = 4  # channels of the branch over channels between its two fully connected layers (MobileNetV3's ratio)


def channels_of(published: int, width: float) -> int:
    """A channel count of the paper at this width: a multiple of 8, in the stages >= 16."""
    return scaled(published, width, 8, least=8 if published == STEM else 16)


def channel_split(x: Tensor) -> tuple[Tensor, Tensor]:
    """Shuffle of two groups, then split: the even channels and the odd channels; (b, c, h, w) -> 2 x (b, c/2, h, w)."""
    # Channels last, or the gradient of unbind comes back as (b, c, h, w) in memory and slows every layer below.
    even, odd = x.permute(0, 2, 3, 1).unflatten(-1, (-1, 2)).unbind(-1)  # (b, h, w, c/2)
    return even.permute(0, 3, 1, 2), odd.permute(0, 3, 1, 2)


class ShuffleBlock(nn.Module):
    """One operation of one layer, a block of ShuffleNetV2 (Ma et al. 2018).

    Stride 1: half the channels pass, half go through the main branch. Stride 2: the input goes through a
    projection and the main branch. The outputs are concatenated; the next block's split shuffles them.

    Args:
        outputs: with stride 1 as many channels as come in.
        operation: index into `spaces.shufflenet.OPERATIONS`.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, operation: int) -> None:
        super().__init__()
        self.stride = stride
        self.passing = inputs // 2 if stride == 1 else 0  # channels that go through unchanged, the first ones
        kernel = (3, 5, 7, 3)[operation]
        activation = nn.ReLU if operation == 0 else nn.SiLU  # A.4: Swish with 5x5, 7x7 and Xception
        entering = inputs if stride == 2 else inputs // 2
        middle, leaving = outputs // 2, outputs - entering

        def pointwise(a: int, b: int) -> list[nn.Module]:
            return [*conv_bn(a, b, 1), activation(inplace=True)]

        if operation == 3:  # Xception: three depthwise-separable convolutions
            branch = [*depthwise_bn(entering, 3, stride), *pointwise(entering, middle)]
            branch += [*depthwise_bn(middle, 3), *pointwise(middle, middle), *depthwise_bn(middle, 3)]
        else:
            branch = [*pointwise(entering, middle), *depthwise_bn(middle, kernel, stride)]
        branch += pointwise(middle, leaving)
        if operation in (2, 3):  # A.4: squeeze-and-excitation with 7x7 and Xception
            branch.append(SqueezeExcitation(leaving, max(1, leaving // SQUEEZE)))
        self.branch = nn.Sequential(*branch)
        if stride == 2:
            self.projection = nn.Sequential(*depthwise_bn(entering, kernel, stride), *pointwise(entering, entering))

    def forward(self, x: Tensor) -> Tensor:
        """(b, inputs, h, w) -> (b, outputs, h / stride, w / stride)"""
        if self.stride == 2:
            return torch.cat((self.projection(x), self.branch(x)), dim=1)
        kept, worked = channel_split(x)
        return torch.cat((kept, self.branch(worked)), dim=1)


@torch.no_grad()
def align(blocks: list[ShuffleBlock]) -> None:
    """Starts the operations of one layer from nearly the same function: that of the first block.

    The pointwise weights at both ends of each branch are made equal, and a 5x5 or 7x7 kernel starts as the 3x3
    kernel with zeros around it. Otherwise the features that a layer sees change their meaning with every path drawn
    below it, and a supernet spends its first epochs on that (measured in docs/explanation/spaces.md, "Aligned start").
    """
    for part in ("branch", "projection")[: blocks[0].stride]:
        (first, last, small), *others = (_ends(getattr(block, part)) for block in blocks)
        for its_first, its_last, kernel in others:
            its_first.copy_(first)
            its_last.copy_(last)
            margin = (kernel.shape[-1] - small.shape[-1]) // 2
            if kernel.shape[:2] == small.shape[:2]:  # Xception's branch begins with a kernel of another width
                kernel.copy_(nn.functional.pad(small, (margin,) * 4))


def _ends(part: nn.Sequential) -> tuple[Tensor, Tensor, Tensor]:
    """Weights of the first and last pointwise, and of the first depthwise convolution (c, 1, k, k)."""
    weights = [module.weight for module in part if isinstance(module, nn.Conv2d)]
    pointwise = [weight for weight in weights if weight.shape[-1] == 1]
    return pointwise[0], pointwise[-1], next(weight for weight in weights if weight.shape[-1] > 1)


class ShuffleNet(Supernet):
    """Stem, choice blocks in four stages, last convolution, classifier."""

    def __init__(self, config: NetworkConfig, held: Sequence[Sequence[int]]) -> None:
        super().__init__(config)
        channels, stride = channels_of(STEM, config.width), 2 if config.large_images else 1
        self.stem = nn.Sequential(*conv_bn(config.image_channels, channels, 3, stride), nn.ReLU(inplace=True))
        self.layers = nn.ModuleList()
        for stage, repeats in zip(STAGES, stage_layers(config.layers), strict=True):
            width = channels_of(stage, config.width)
            for i in range(repeats):
                stride = 2 if i == 0 else 1
                blocks = {o: ShuffleBlock(channels, width, stride, o) for o in held[len(self.layers)]}
                align(list(blocks.values()))
                self.layers.append(ChoiceBlock(blocks))
                channels = width
        last = channels_of(LAST, config.width)
        self.head = nn.Sequential(*conv_bn(channels, last, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(DROPOUT), nn.Linear(last, config.classes))
        self.to(memory_format=torch.channels_last)


class ShuffleNetImageSpace(ImageSpace):
    """20 layers and width 1.0 are the paper's."""

    name, network_class, title = "shufflenet", ShuffleNet, "ShuffleNet-like network"
    default_width, default_layers = 0.25, 10
    width_rule = NARROWEST, 0, "stages must grow by 8 channels each; 1 = the paper's"
    widths = (1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25)
    operation_names = OPERATIONS
    has_dropout = True

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        self.space = shufflenet_space(config.layers)

    @classmethod
    def checked(cls, config: NetworkConfig) -> NetworkConfig:
        stage_layers(config.layers)
        return super().checked(config)

    @classmethod
    def layers_of(cls, code: str) -> int:
        """A layer for each symbol."""
        return sum(map(len, code.split("-")))
