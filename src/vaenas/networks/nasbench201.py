"""The networks of NAS-Bench-201 (Dong & Yang 2020), supernet and final network in one class."""

from collections.abc import Iterator, Sequence
from functools import partial, reduce
from operator import add

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from vaenas.networks.drawing import Drawing, draw_cell, draw_cells
from vaenas.networks.image_space import ImageSpace
from vaenas.networks.ops import conv_bn, relu_conv_bn
from vaenas.networks.supernet import ChoiceBlock, Edge, NetworkConfig, Step, Supernet
from vaenas.spaces.nasbench201 import NONE, OPERATIONS, SOURCES, SYMBOLS, TARGETS, NASBench201Space, prune

STAGES = 3
NODES = (1, 2, 3)  # 0 is the input, 3 the output
States = tuple[Tensor, ...]
"""The input of a cell and its nodes so far."""


def _operation(operation: int, channels: int) -> nn.Module:
    """(b, channels, h, w) -> the same shape"""
    match OPERATIONS[operation]:
        case "nor_conv_1x1" | "nor_conv_3x3" as name:
            return relu_conv_bn(channels, channels, int(name[-1]))
        case "avg_pool_3x3":
            return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
        case _:  # also "none", which is never computed
            return nn.Identity()


class Reduction(nn.Module):
    """Between two stages: a residual block that halves the image and doubles the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            relu_conv_bn(channels, 2 * channels, 3, stride=2), relu_conv_bn(2 * channels, 2 * channels, 3)
        )
        pooling = nn.AvgPool2d(2, ceil_mode=True)  # images of odd size, too; the benchmark's are even
        self.shortcut = nn.Sequential(pooling, nn.Conv2d(channels, 2 * channels, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """(b, channels, h, w) -> (b, 2 * channels, ⌈h / 2⌉, ⌈w / 2⌉)"""
        return self.shortcut(x) + self.branch(x)


class NASBench201(Supernet):
    """Stem, three stages of equal cells with a reduction between two, classifier.

    `layers` are the edges cell by cell. All cells share their slots, never weights.
    """

    def __init__(self, config: NetworkConfig, held: Sequence[Sequence[int]]) -> None:
        super().__init__(config)
        channels = int(config.width)
        self.stem = nn.Sequential(*conv_bn(config.image_channels, channels, 3))
        self.layers, self.reductions = nn.ModuleList(), nn.ModuleList()
        for stage in range(STAGES):
            if stage:
                self.reductions.append(Reduction(channels))
                channels *= 2
            for _ in range(config.layers):
                self.layers.extend(ChoiceBlock({o: _operation(o, channels) for o in of_slot}) for of_slot in held)
        self.head = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(channels, config.classes))
        self.to(memory_format=torch.channels_last)

    @property
    def layer_slots(self) -> list[int]:
        """All cells share their slots."""
        return list(range(len(SOURCES))) * STAGES * self.config.layers

    def steps(self, path: list[list[int]], gates: Float[Tensor, "s m"] | None = None) -> Iterator[Step]:
        """As in `Supernet`; "none" is never computed, and a node without an edge is zero."""
        every = self.edges(SOURCES, path, gates, NONE)
        yield Step("stem", self.stem, [self.stem])
        for cell in range(STAGES * self.config.layers):
            stage, within = divmod(cell, self.config.layers)
            if stage and within == 0:
                reduction = self.reductions[stage - 1]
                yield Step("reduction", reduction, [reduction])
            of_cell = every[len(SOURCES) * cell : len(SOURCES) * (cell + 1)]
            for node in NODES:
                into = [edge for edge, target in zip(of_cell, TARGETS, strict=True) if target == node]
                yield Step.node(into, partial(_add_node, into, node))
        yield Step("head", lambda x: self.classifier(self.head(x)), [self.head])


def _add_node(into: Sequence[Edge], node: int, states: Tensor | States) -> Tensor | States:
    """The next node, the sum of the edges into it; after the last the cell's output alone."""
    states = (states,) if isinstance(states, Tensor) else states
    terms = [edge(states) for edge in into if edge.operations]
    value = reduce(add, terms) if terms else torch.zeros_like(states[0])
    return value if node == NODES[-1] else (*states, value)


class NASBench201ImageSpace(ImageSpace):
    """The width is the first stage's channels, doubled in the second and third; layers are the cells of a stage."""

    name, network_class = "nasbench201", NASBench201
    default_width, default_layers = 8, 1
    width_rule = 1, 1, "16 = the benchmark's"
    widths = (64, 48, 32, 24, 16, 8)
    space = NASBench201Space()
    none = NONE

    def drawing(self, architecture: Int64[Tensor, "6"]) -> Drawing:
        """Four nodes and the operations on their edges, those that count (`prune`)."""
        kept, nodes = prune(architecture[None])[0].tolist(), {}
        for node in NODES:
            slots = [slot for slot, target in enumerate(TARGETS) if target == node and kept[slot] != NONE]
            nodes["output" if node == NODES[-1] else str(node)] = [(SOURCES[slot], slot, kept[slot]) for slot in slots]
        title = f"NAS-Bench-201 cell, {self.config.layers} in each stage, {self.config.width} channels"
        return draw_cells(title, [draw_cell("cell", ["input"], nodes)], SYMBOLS, OPERATIONS)
