"""The operations of the ShuffleNet-like space (App. A.4) as blocks of ShuffleNetV2 (Ma et al. 2018)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation

from vaenas.networks.depthwise import DepthwiseConv2d
from vaenas.parallel import local_chunk, world_size

SQUEEZE = 4  # channels of the branch over channels between its two fully connected layers (MobileNetV3's ratio)


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """Convolution without bias and batch norm, padded so that stride alone sets the output size."""
    return [nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs)]


def depthwise_bn(channels: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """The same, each channel by itself."""
    return [DepthwiseConv2d(channels, kernel, stride, padding=kernel // 2), nn.BatchNorm2d(channels)]


def relu_conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """ReLU first, not in place: what comes in is shared by others."""
    return nn.Sequential(nn.ReLU(), *conv_bn(inputs, outputs, kernel, stride))


def total(terms: Sequence[Tensor]) -> Tensor:
    """The sum of at least one tensor."""
    found = terms[0]
    for term in terms[1:]:
        found = found + term
    return found


class Zero(nn.Module):
    """ "none". A cell leaves it out; only its cost is asked for, and that is nothing."""

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> one zero, which broadcasts"""
        return x.new_zeros(1, 1, 1, 1)


class Subsample(nn.Module):
    """Every `stride`-th pixel, for a 1x1 convolution after it: the same as one with that stride.

    Strided 1x1 convolutions of few channels (< 8 or 16) in channels-last layout write past their memory in the backward
    pass on CPUs (oneDNN, issue 6035).
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, ⌈h / stride⌉, ⌈w / stride⌉)"""
        return x[:, :, :: self.stride, :: self.stride]


class DropPath(nn.Module):
    """Sets a whole image's output to zero with `probability`, in [0, 1), while training, and scales what is left.

    One of these serves a whole network: a schedule sets `probability` once.
    """

    def __init__(self, probability: float = 0.0) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> the same shape"""
        if not self.training or self.probability == 0:
            return x
        kept = 1 - self.probability
        whole = x.new_empty(world_size() * len(x), 1, 1, 1).bernoulli_(kept)  # of a batch that processes share
        return x * local_chunk(whole).div_(kept)


def channel_split(x: Tensor) -> tuple[Tensor, Tensor]:
    """Shuffle of two groups, then split: the even channels and the odd channels; (b, c, h, w) -> 2 x (b, c/2, h, w)."""
    # Channels last, or the gradient of unbind comes back as (b, c, h, w) in memory and slows every layer below.
    even, odd = x.permute(0, 2, 3, 1).unflatten(-1, (-1, 2)).unbind(-1)  # (b, h, w, c/2)
    return even.permute(0, 3, 1, 2), odd.permute(0, 3, 1, 2)


class ShuffleBlock(nn.Module):
    """One operation of one layer.

    Stride 1: half the channels pass, half go through the main branch. Stride 2: the input goes through a
    projection and the main branch. The outputs are concatenated; the next block's split shuffles them.

    Args:
        inputs: channels that come in.
        outputs: channels that go out; with stride 1 equal to `inputs`.
        stride: 1 or 2.
        operation: index into `spaces.shufflenet.OPERATIONS`.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, operation: int) -> None:
        super().__init__()
        self.stride = stride
        self.passing = inputs // 2 if stride == 1 else 0  # channels that go through unchanged, the first ones
        kernel = (3, 5, 7, 3)[operation]
        activation = nn.ReLU if operation == 0 else nn.SiLU  # A.4: Swish with 5x5, 7x7 and Xception
        squeeze = operation in (2, 3)  # A.4: squeeze-and-excitation with 7x7 and Xception

        entering = inputs if stride == 2 else inputs // 2
        middle, leaving = outputs // 2, outputs - entering

        def pointwise(a: int, b: int) -> list[nn.Module]:
            return [*conv_bn(a, b, 1), activation(inplace=True)]

        if operation == 3:  # Xception: three depthwise-separable convolutions
            branch = [
                *depthwise_bn(entering, 3, stride),
                *pointwise(entering, middle),
                *depthwise_bn(middle, 3),
                *pointwise(middle, middle),
                *depthwise_bn(middle, 3),
                *pointwise(middle, leaving),
            ]
        else:
            branch = [
                *pointwise(entering, middle),
                *depthwise_bn(middle, kernel, stride),
                *pointwise(middle, leaving),
            ]
        if squeeze:
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
    first, *others = blocks
    for part in ("branch", "projection"):
        if not hasattr(first, part):
            continue
        pointwise, depthwise = _convolutions(getattr(first, part))
        small = depthwise[0].weight  # (c, 1, k, k)
        for block in others:
            its_pointwise, its_depthwise = _convolutions(getattr(block, part))
            its_pointwise[0].weight.copy_(pointwise[0].weight)
            its_pointwise[-1].weight.copy_(pointwise[-1].weight)
            kernel = its_depthwise[0].weight
            margin = (kernel.shape[-1] - small.shape[-1]) // 2
            if kernel.shape[:2] == small.shape[:2]:  # Xception's branch begins with a kernel of another width
                kernel.copy_(nn.functional.pad(small, (margin,) * 4))


def _convolutions(part: nn.Sequential) -> tuple[list[nn.Conv2d], list[nn.Conv2d]]:
    """The pointwise and the depthwise ones, in order; squeeze-and-excitation's stand one level deeper."""
    convolutions = [module for module in part if isinstance(module, nn.Conv2d)]
    return [c for c in convolutions if c.groups == 1], [c for c in convolutions if c.groups > 1]
