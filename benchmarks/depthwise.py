"""Our depthwise convolution's step (forward and backward) against PyTorch's, where the kernel is larger than the map.

python benchmarks/depthwise.py [--channels 192] [--batch-size 128] [--kernel 5] [--map 4]       (seconds)
"""

import argparse

import torch
from ratio import ratio
from torch import nn

from vaenas.networks.ops import DepthwiseConv2d


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--channels", type=int, default=192)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--kernel", type=int, default=5)
    parser.add_argument("--map", type=int, default=4, help="pixels a side")
    parser.add_argument("--runs", type=int, default=20)
    options = parser.parse_args()
    channels, kernel = options.channels, options.kernel

    torch.manual_seed(0)
    ours = DepthwiseConv2d(channels, kernel, padding=kernel // 2)
    reference = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False)
    x = torch.randn(options.batch_size, channels, options.map, options.map, requires_grad=True)
    x = x.contiguous(memory_format=torch.channels_last)

    def step(convolution: nn.Module) -> None:
        y = convolution(x)
        y.backward(torch.ones_like(y))

    ratio("depthwise", lambda: step(ours), lambda: step(reference), "nn.Conv2d", options.runs)


if __name__ == "__main__":
    main()
