"""The operations of the NASNet-like space (App. A.4) as DARTS's final networks have them (Liu et al. 2018b)."""

import torch
from torch import Tensor, nn

from vaenas.networks.depthwise import DepthwiseConv2d
from vaenas.networks.ops import DropPath, Zero, conv_bn
from vaenas.spaces.nasnet import OPERATIONS


class FactorizedReduce(nn.Module):
    """Halves the image: one 1x1 convolution sees the pixels of even rows and columns, the other those of odd ones.

    An image of odd size gets a row and a column of zeros, so that both see equally many.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.even = nn.Conv2d(inputs, outputs // 2, 1, bias=False)
        self.odd = nn.Conv2d(inputs, outputs // 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(b, inputs, h, w) -> (b, outputs, ⌈h / 2⌉, ⌈w / 2⌉)"""
        # picked before the convolutions for the reason that `ops.Subsample` has
        x = self.relu(x)
        even, odd = x[:, :, ::2, ::2], x[:, :, 1::2, 1::2]
        missing = (0, even.shape[3] - odd.shape[3], 0, even.shape[2] - odd.shape[2])
        if any(missing):
            odd = nn.functional.pad(odd, missing)
        return self.norm(torch.cat([self.even(even), self.odd(odd)], dim=1))


def separable(channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> list[nn.Module]:
    """ReLU, depthwise and pointwise convolution, batch norm."""
    padding = dilation * (kernel // 2)
    depthwise = DepthwiseConv2d(channels, kernel, stride, padding, dilation)
    return [nn.ReLU(), depthwise, *conv_bn(channels, channels, 1)]


def make_operation(index: int, channels: int, stride: int, drop_path: DropPath) -> nn.Module:
    """One operation of one edge, (b, channels, h, w) -> (b, channels, ⌈h / stride⌉, ⌈w / stride⌉).

    Args:
        index: into `spaces.nasnet.OPERATIONS`.
        stride: 2 on a reduction cell's edges from its inputs, else 1.
        drop_path: the network's; it acts on everything but the identity.
    """
    name = OPERATIONS[index]
    if name == "none":
        return Zero()
    if name == "skip_connect" and stride == 1:
        return nn.Identity()
    if name == "skip_connect":
        modules: list[nn.Module] = [FactorizedReduce(channels, channels)]
    elif name == "avg_pool_3x3":
        modules = [nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)]
    elif name == "max_pool_3x3":
        modules = [nn.MaxPool2d(3, stride, padding=1)]
    elif name == "dil_conv_3x3":
        modules = separable(channels, 3, stride, dilation=2)
    else:
        kernel = int(name[-1])  # sep_conv_3x3, 5x5 or 7x7: applied twice
        modules = [*separable(channels, kernel, stride), *separable(channels, kernel)]
    return nn.Sequential(*modules, drop_path)


def auxiliary_tower(channels: int, classes: int, size: int, large: bool) -> nn.Sequential:
    """DARTS's second classifier at 2/3 of the depth: pooling to 2 x 2, two convolutions, linear.

    Args:
        size: side of the feature map, >= 2. The window is DARTS's 5 where it fits, its stride is what gives 2 x 2:
            3 at 8 x 8 (CIFAR-10) and 2 at 7 x 7 (ImageNet), as there.
        large: ImageNet geometry, for which DARTS left out the second batch norm.
    """
    window = min(5, size - 1)
    return nn.Sequential(
        nn.ReLU(),
        nn.AvgPool2d(window, stride=size - window, count_include_pad=False),
        *conv_bn(channels, 128, 1),
        nn.ReLU(),
        nn.Conv2d(128, 768, 2, bias=False),
        *([] if large else [nn.BatchNorm2d(768)]),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(768, classes),
    )
