"""Layers that several spaces build their operations from."""

from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaenas.parallel import local_chunk, world_size


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """Convolution without bias and batch norm, padded so that stride alone sets the output size."""
    return [nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs)]


def depthwise_bn(channels: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """The same, each channel by itself."""
    return [DepthwiseConv2d(channels, kernel, stride, padding=kernel // 2), nn.BatchNorm2d(channels)]


def relu_conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """ReLU first, not in place: what comes in is shared by others."""
    return nn.Sequential(nn.ReLU(), *conv_bn(inputs, outputs, kernel, stride))


def scaled(published: int, width: float, multiple: int, least: int) -> int:
    """A published number of channels times the width: the nearest multiple (halves up), at least `least`."""
    return max(least, multiple * int(published * width / multiple + 0.5))


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


class DepthwiseConv2d(nn.Conv2d):
    """`nn.Conv2d` of each channel by itself, without bias.

    On CPUs oneDNN's gradient of the weights takes many times as long as its forward pass where the kernel is
    larger than the map (5 x 5 on 4 x 4 pixels: `benchmarks/depthwise.py`). There, in training, it is computed as a
    product of matrices instead.
    """

    def __init__(self, channels: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> None:
        super().__init__(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """(b, channels, h, w) -> (b, channels, h', w')"""
        reach = self.dilation[0] * (self.kernel_size[0] - 1) + 1
        small = input.device.type == "cpu" and input.dtype == torch.float32 and max(input.shape[2:]) < reach
        if not (small and self.training and torch.is_grad_enabled()) or torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        assert isinstance(self.padding, tuple)
        found = _SmallMap.apply(input, self.weight, self.stride, self.padding, self.dilation)
        assert isinstance(found, Tensor)
        return found


class _SmallMap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, *shape: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.shape = shape  # stride, padding, dilation
        return nn.functional.conv2d(x, weight, None, *shape, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        (gradient,) = grad_outputs
        x, weight = ctx.saved_tensors
        stride, padding, dilation = ctx.shape
        of_input, _, _ = torch.ops.aten.convolution_backward(
            gradient, x, weight, None, stride, padding, dilation, False, [0, 0], len(weight), [True, False, False]
        )
        # For each channel: every input pixel times every output pixel, summed over the batch ...
        pairs = torch.bmm(_by_channel(x).transpose(1, 2), _by_channel(gradient))  # (c, h w, h' w')
        # ... and then over the pairs that one weight of the kernel joins.
        joined = _joined(x.shape[2:], weight.shape[2:], *ctx.shape)  # (k k, h w h' w')
        return of_input, (pairs.flatten(1) @ joined.T).view_as(weight), None, None, None


def _by_channel(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "c b hw"]:
    b, c, h, w = x.shape
    return x.permute(0, 2, 3, 1).reshape(b * h * w, c).t().contiguous().view(c, b, h * w)


@lru_cache(maxsize=64)
def _joined(
    size: tuple[int, int], kernel: tuple[int, int], stride: Any, padding: Any, dilation: Any
) -> Float[Tensor, "kk pairs"]:
    """1 where the weight joins input pixel and output pixel."""
    pixels = size[0] * size[1]
    single = torch.eye(pixels).view(pixels, 1, *size)  # each input pixel alone
    return nn.functional.unfold(single, kernel, dilation, padding, stride).transpose(0, 1).flatten(1)
