"""Depthwise convolution whose weights' gradient is fast on small maps, too."""

from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


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
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Float[Tensor, "kk pairs"]:
    """1 where the weight joins input pixel and output pixel."""
    pixels = size[0] * size[1]
    single = torch.eye(pixels).view(pixels, 1, *size)  # each input pixel alone
    return nn.functional.unfold(single, kernel, dilation, padding, stride).transpose(0, 1).flatten(1)
