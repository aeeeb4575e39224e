"""The network of the NASNet-like space: DARTS's (Liu et al. 2018b), supernet and final network in one class."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from vaenas.networks.cost import AdditiveCost, additive_cost
from vaenas.networks.image_space import ImageSpace
from vaenas.networks.nasnet_ops import DropPath, FactorizedReduce, auxiliary_tower, make_operation
from vaenas.networks.ops import conv_bn, relu_conv_bn, total
from vaenas.networks.supernet import ChoiceBlock, Step, Supernet, without
from vaenas.spaces.geometry import check_channels
from vaenas.spaces.nasnet import (
    EDGES,
    INPUTS,
    NODES,
    NONE,
    OPERATIONS,
    PAPER_WIDTHS,
    SLOTS,
    NASNetGeometry,
    drawing,
    nasnet_space,
)


class NASNet(Supernet):
    """Stem, cells, classifier. `layers` are the edges cell by cell; cells of one kind share slots, never weights.

    Args:
        geometry: image size, classes, width, layers.
        allowed: for each of the 28 slots the operations that it holds: all eight = the supernet, one = a final network.
        auxiliary: whether to add the auxiliary tower, for training (its parameters count in no published figure).
        drop_path: probability that an edge other than the identity drops an image while training, in [0, 1); a
            schedule sets `drop_path.probability`.
    """

    def __init__(
        self,
        geometry: NASNetGeometry,
        allowed: Sequence[Sequence[int]] | None = None,
        auxiliary: bool = False,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.geometry = geometry
        allowed = allowed or [range(len(OPERATIONS))] * SLOTS
        self.input_shape = (geometry.image_channels, geometry.image_size, geometry.image_size)
        self.drop_path = DropPath(drop_path)
        width = geometry.width
        if geometry.large:
            halved = [*conv_bn(geometry.image_channels, width // 2, 3, stride=2), nn.ReLU(inplace=True)]
            self.stem0 = nn.Sequential(*halved, *conv_bn(width // 2, width, 3, stride=2))
            self.stem1: nn.Module = nn.Sequential(nn.ReLU(), *conv_bn(width, width, 3, stride=2))
            before = previous = width
        else:
            self.stem0 = nn.Sequential(*conv_bn(geometry.image_channels, 3 * width, 3))
            self.stem1 = nn.Identity()
            before = previous = 3 * width

        self.inputs, self.layers = nn.ModuleList(), nn.ModuleList()
        slots = iter(geometry.layer_slots)
        halve_before = geometry.large  # whether c_{k-2} is twice as large as c_{k-1}
        for cell in range(geometry.layers):
            reduction = cell in geometry.reductions
            width *= 2 if reduction else 1
            self.inputs.append(FactorizedReduce(before, width) if halve_before else relu_conv_bn(before, width, 1))
            self.inputs.append(relu_conv_bn(previous, width, 1))
            for source, _ in EDGES:
                stride = 2 if reduction and source < INPUTS else 1
                held = allowed[next(slots)]
                self.layers.append(ChoiceBlock({o: make_operation(o, width, stride, self.drop_path) for o in held}))
            before, previous, halve_before = previous, NODES * width, reduction
        self.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(previous, geometry.classes))
        self.auxiliary = (
            auxiliary_tower(previous, geometry.classes, geometry.last_size, geometry.large) if auxiliary else None
        )
        self.to(memory_format=torch.channels_last)

    def path(self, architecture: Int64[Tensor, "s"] | Int64[Tensor, "s m"] | None) -> list[list[int]]:
        """The operations of each slot; of a final network those of its first normal and its first reduction cell."""
        if architecture is not None:
            return super().path(architecture)
        held = super().path(None)
        cells = (0, self.geometry.reductions[0])
        return [operations for c in cells for operations in held[len(EDGES) * c : len(EDGES) * (c + 1)]]

    def steps(self, path: list[list[int]], gates: Float[Tensor, "s m"] | None = None) -> Iterator[Step]:
        """As in `Supernet`; "none" is never computed, and every node needs another operation."""
        choices = without(NONE, path, gates)
        edges = [
            (layer, *choices[slot]) for layer, slot in zip(self.choice_blocks, self.geometry.layer_slots, strict=True)
        ]
        yield Step("stem", self._stem, [self.stem0, self.stem1])
        for cell in range(self.geometry.layers):
            fit = list(self.inputs[2 * cell : 2 * cell + 2])
            yield Step("inputs", partial(_enter, fit), fit)
            for node in range(NODES):
                first = len(EDGES) * cell + EDGES.index((0, INPUTS + node))
                into = edges[first : first + INPUTS + node]
                if not any(operations for _, operations, _ in into):
                    raise ValueError(f"node {INPUTS + node} of cell {cell} has no operation other than none")
                parts = [module for layer, operations, _ in into for module in layer.named(operations)]
                yield Step(tuple(tuple(operations) for _, operations, _ in into), partial(_add_node, into), parts)
            if self.auxiliary is not None and cell == self.geometry.reductions[1]:
                yield Step("keep", _keep, [])
        yield Step("classifier", lambda flow: self.classifier(flow.output), [self.classifier])

    def feature_map(self, state: "_Flow") -> Tensor | None:
        """As in `Supernet`."""
        return state.output if len(state.states) in (1, INPUTS + NODES) else None

    def with_auxiliary(
        self, images: Tensor, architecture: Tensor | None = None, gates: Float[Tensor, "s m"] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits as from `forward`, and the auxiliary tower's."""
        if self.auxiliary is None:
            raise ValueError("the network was built without the auxiliary tower")
        flow: Any = images.contiguous(memory_format=torch.channels_last)
        *steps, classifier = self.steps(self.path(architecture), gates)
        for step in steps:
            flow = step.run(flow)
        return classifier.run(flow), self.auxiliary(flow.reduced)

    def subnet(self, architecture: Int64[Tensor, "s"]) -> "NASNet":
        """The final network of one architecture, with this network's weights; with a tower if this one has one."""
        allowed = [[o] for o in architecture.tolist()]
        final = NASNet(self.geometry, allowed, self.auxiliary is not None, self.drop_path.probability)
        return self._with_weights_of_path(final)

    def _stem(self, images: Tensor) -> "_Flow":
        before = self.stem0(images)
        return _Flow(before, (self.stem1(before),), None)


class _Flow(NamedTuple):
    """What goes from step to step."""

    before: Tensor  # the output of the cell before
    states: tuple[Tensor, ...]  # of this cell: its two inputs, then its nodes so far; or the stem's output alone
    reduced: Tensor | None  # the output of the second reduction cell

    @property
    def output(self) -> Tensor:
        """Of this cell, or of the stem."""
        return self.states[0] if len(self.states) == 1 else torch.cat(self.states[INPUTS:], dim=1)


def _enter(fit: Sequence[nn.Module], flow: _Flow) -> _Flow:
    """Begins the next cell: its inputs, brought to its channels."""
    output = flow.output
    return _Flow(output, (fit[0](flow.before), fit[1](output)), flow.reduced)


def _add_node(into: Sequence[tuple[nn.Module, list[int], Tensor | None]], flow: _Flow) -> _Flow:
    """The next node: the sum of the edges into it."""
    edges = zip(flow.states, into, strict=True)
    terms = [layer(source, operations, gates) for source, (layer, operations, gates) in edges if operations]
    return flow._replace(states=(*flow.states, total(terms)))


def _keep(flow: _Flow) -> _Flow:
    return flow._replace(reduced=flow.output)


class NASNetCost(AdditiveCost):
    """`AdditiveCost` of the NASNet-like space, where "none" costs nothing and every node needs something else."""

    def cheapest(self, which: int) -> tuple[Int64[Tensor, "s"], int]:
        """The valid architecture with the least of cost `which`, as in `AdditiveCost`, and that number."""
        architecture = torch.full((SLOTS,), NONE)
        start = 0
        for length in nasnet_space().groups:
            costs = self.table[which, start : start + length, NONE + 1 :]  # (edges of the node, operations)
            edge, operation = divmod(int(costs.argmin()), costs.shape[1])
            architecture[start + edge] = NONE + 1 + operation
            start += length
        return architecture, int(self.totals(architecture[None])[which])


def nasnet_cost(geometry: NASNetGeometry) -> NASNetCost:
    """Multiply-adds and parameters of whole populations, exact, the auxiliary tower left out."""
    cost = additive_cost(lambda: NASNet(geometry), geometry.layer_slots)
    return NASNetCost(cost.table, cost.constant)


def _geometry(image_size: int, image_channels: int, classes: int, width: float, layers: int) -> NASNetGeometry:
    check_channels("nasnet", width, PAPER_WIDTHS, multiple=2, least=2)
    return NASNetGeometry(image_size, image_channels, classes, int(width), layers)


IMAGE_SPACE = ImageSpace(
    geometry=_geometry,
    space=lambda geometry: nasnet_space(),
    network=NASNet,
    cost=nasnet_cost,
    drawing=drawing,
    width=8,
    layers=5,
    widths=(48, 36, 24, 16, 8),
    none=NONE,
    slots=lambda geometry: geometry.layer_slots,
)
