"""The networks of NAS-Bench-201 (Dong & Yang 2020), supernet and final network in one class."""

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from vaenas.networks.cost import additive_cost
from vaenas.networks.image_space import ImageSpace
from vaenas.networks.ops import Zero, conv_bn, relu_conv_bn, total
from vaenas.networks.supernet import ChoiceBlock, Step, Supernet, without
from vaenas.spaces.geometry import check_channels
from vaenas.spaces.nasbench201 import (
    BENCHMARK_WIDTH,
    NONE,
    OPERATIONS,
    SOURCES,
    STAGES,
    TARGETS,
    NASBench201Geometry,
    drawing,
    nasbench201_space,
)

INTO = {node: [edge for edge, target in enumerate(TARGETS) if target == node] for node in (1, 2, 3)}
States = tuple[Tensor, ...]
"""The input of a cell and its nodes so far."""


def _operation(operation: int, channels: int) -> nn.Module:
    """(b, channels, h, w) -> the same shape"""
    match OPERATIONS[operation]:
        case "none":
            return Zero()
        case "skip_connect":
            return nn.Identity()
        case "nor_conv_1x1":
            return relu_conv_bn(channels, channels, 1)
        case "nor_conv_3x3":
            return relu_conv_bn(channels, channels, 3)
        case _:
            return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)


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

    Args:
        geometry: image size, classes, width, cells in a stage.
        allowed: for each of the 6 slots the operations that it holds: all five = the supernet, one = a final network.
    """

    def __init__(self, geometry: NASBench201Geometry, allowed: Sequence[Sequence[int]] | None = None) -> None:
        super().__init__()
        self.geometry = geometry
        allowed = allowed or [range(len(OPERATIONS))] * len(SOURCES)
        self.input_shape = (geometry.image_channels, geometry.image_size, geometry.image_size)
        channels = geometry.width
        self.stem = nn.Sequential(*conv_bn(geometry.image_channels, channels, 3))
        self.layers, self.reductions = nn.ModuleList(), nn.ModuleList()
        for stage in range(STAGES):
            if stage:
                self.reductions.append(Reduction(channels))
                channels *= 2
            for _ in range(geometry.layers):
                self.layers.extend(ChoiceBlock({o: _operation(o, channels) for o in held}) for held in allowed)
        self.head = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(channels, geometry.classes))
        self.to(memory_format=torch.channels_last)

    def path(self, architecture: Int64[Tensor, "s"] | Int64[Tensor, "s m"] | None) -> list[list[int]]:
        """The operations of each slot; of a final network those of its first cell."""
        return super().path(architecture)[: len(SOURCES)]

    def steps(self, path: list[list[int]], gates: Float[Tensor, "s m"] | None = None) -> Iterator[Step]:
        """As in `Supernet`; "none" is never computed, and a node without an edge is zero."""
        choices = without(NONE, path, gates)
        yield Step("stem", self.stem, [self.stem])
        for cell in range(self.geometry.cells):
            stage, within = divmod(cell, self.geometry.layers)
            if stage and within == 0:
                reduction = self.reductions[stage - 1]
                yield Step("reduction", reduction, [reduction])
            layers = self.choice_blocks[len(SOURCES) * cell :]
            for node, edges in INTO.items():
                into = [(SOURCES[edge], layers[edge], *choices[edge]) for edge in edges if choices[edge][0]]
                parts = [module for _, layer, operations, _ in into for module in layer.named(operations)]
                key = tuple(tuple(choices[edge][0]) for edge in edges)
                yield Step(key, partial(_node, into, node), parts)
        yield Step("head", lambda x: self.classifier(self.head(x)), [self.head])


def _node(
    into: Sequence[tuple[int, nn.Module, list[int], Tensor | None]], node: int, states: Tensor | States
) -> Tensor | States:
    """The next node, the sum of the edges into it; after the last the cell's output alone."""
    states = (states,) if isinstance(states, Tensor) else states
    terms = [layer(states[source], operations, gates) for source, layer, operations, gates in into]
    value = total(terms) if terms else torch.zeros_like(states[0])
    return value if node == max(INTO) else (*states, value)


def _geometry(image_size: int, image_channels: int, classes: int, width: float, layers: int) -> NASBench201Geometry:
    check_channels("nasbench201", width, BENCHMARK_WIDTH)
    return NASBench201Geometry(image_size, image_channels, classes, int(width), layers)


IMAGE_SPACE = ImageSpace(
    geometry=_geometry,
    space=lambda geometry: nasbench201_space(),
    network=NASBench201,
    cost=lambda geometry: additive_cost(lambda: NASBench201(geometry), geometry.layer_slots),
    drawing=drawing,
    width=8,
    layers=1,
    widths=(64, 48, 32, 24, 16, 8),
    none=NONE,
    slots=lambda geometry: geometry.layer_slots,
)
