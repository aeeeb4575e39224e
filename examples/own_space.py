"""A search space of one's own: six layers, each a convolution of one of three kinds, or nothing.

vaenas search --space-file examples/own_space.py --output run
vaenas train run --output trained
vaenas export trained -f torch
vaenas show run
vaenas draw run -o network.svg
"""

from collections.abc import Sequence

from torch import nn

from vaenas.networks import ChoiceBlock, ImageSpace, NetworkConfig, Supernet, register_space
from vaenas.networks.ops import conv_bn, depthwise_bn
from vaenas.spaces.space import SearchSpace

SYMBOLS = "35dn"  # one character for each operation, as codes write them


def operation(index: int, channels: int) -> nn.Module:
    if SYMBOLS[index] == "n":
        return nn.Identity()
    layers = depthwise_bn(channels, 5) if SYMBOLS[index] == "d" else conv_bn(channels, channels, (3, 5)[index])
    return nn.Sequential(*layers, nn.ReLU())


class MyNetwork(Supernet):
    """A chain of one layer per slot: `held` are the operations of each, all = the supernet, one = a final network."""

    def __init__(self, config: NetworkConfig, held: Sequence[Sequence[int]]) -> None:
        super().__init__(config)
        channels = int(config.width)
        self.stem = nn.Sequential(*conv_bn(config.image_channels, channels, 3, stride=2), nn.ReLU())
        self.layers = nn.ModuleList(ChoiceBlock({o: operation(o, channels) for o in of_slot}) for of_slot in held)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(channels, config.classes)


@register_space
class MySpace(ImageSpace):
    name, network_class = "mine", MyNetwork
    default_width, default_layers = 8, 6
    operation_names = ("conv 3x3", "conv 5x5", "depthwise 5x5", "nothing")

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        self.space = SearchSpace("mine", operations=(SYMBOLS,) * config.layers, groups=(config.layers,))
