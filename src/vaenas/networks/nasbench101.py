"""The networks of NAS-Bench-101 (Ying et al. 2019) in one class: supernet (App. A.5, Figs. 6, 7) or final network."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial, reduce
from operator import add
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from vaenas.networks.cost import Costs
from vaenas.networks.drawing import Drawing, draw_cells
from vaenas.networks.image_space import ImageSpace
from vaenas.networks.supernet import ChoiceBlock, NetworkConfig, Step, Supernet
from vaenas.norm import SlicedBatchNorm2d
from vaenas.spaces.cells import EDGES, OPERATIONS, PAIRS, VERTICES, Cells, alive, edge, prune
from vaenas.spaces.nasbench101 import SYMBOLS, NASBench101Space
from vaenas.spaces.space import Population

OUTPUT = VERTICES - 1
INNER = range(1, OUTPUT)
STACKS = 3
KERNELS = (3, 1)  # of the operations that are convolutions; the third is max pooling


def cells_of(config: NetworkConfig) -> list[tuple[int, int]]:
    """Channels into and out of each cell."""
    width = int(config.width)
    outputs = [width * 2**stack for stack in range(STACKS) for _ in range(config.layers)]
    return list(zip([width, *outputs], outputs, strict=False))


def vertex_channels(cells: Cells, outputs: Int64[Tensor, "n"]) -> Int64[Tensor, "n 7"]:
    """Channels of each vertex of pruned cells, 0 for those that are pruned; the input's, which vary, are left at 0.

    The benchmark's rule: vertices with an edge to the output divide its channels among them, the first get one more
    where that does not come out even; any other vertex has as many as the widest that it feeds.

    Args:
        cells: (n, 26)
        outputs: channels of each cell's output.
    """
    channels = cells.new_zeros(len(cells), VERTICES)
    into_output = cells[:, [edge(v, OUTPUT) for v in INNER]]  # (n, 5)
    count = into_output.sum(1).clamp(min=1)
    share, rest = (outputs // count)[:, None], (outputs % count)[:, None]
    channels[:, 1:OUTPUT] = into_output * (share + (into_output.cumsum(1) <= rest).long())
    channels[:, OUTPUT] = outputs
    for v in reversed(INNER):
        fed = cells[:, [edge(v, target) for target in range(v + 1, VERTICES)]] * channels[:, v + 1 :]
        channels[:, v] = torch.where(into_output[:, v - 1] == 1, channels[:, v], fed.amax(1))
    return channels


class ConvBNReLU(nn.Module):
    """Convolution, batch norm, ReLU, of which a cell uses the part that it needs (Fig. 7).

    Args:
        inputs, outputs: the most channels that any cell needs.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.norm = SlicedBatchNorm2d(outputs)

    def forward(self, x: Tensor, outputs: int | None = None) -> Tensor:
        """(b, c, h, w) -> (b, outputs, h, w), by default as many as come in; both at most those of the module."""
        outputs = x.shape[1] if outputs is None else outputs
        weight = self.conv.weight
        if weight.shape[:2] != (outputs, x.shape[1]):
            weight = weight[:outputs, : x.shape[1]]
        y = nn.functional.conv2d(x, weight, padding=self.conv.padding)
        return nn.functional.relu(self.norm(y), inplace=True)


class NASBench101(Supernet):
    """Stem, three stacks of equal cells with max pooling between two, classifier.

    `layers` are the five inner vertices of each cell, `projections` bring a cell's input to the channels of the
    vertices 1 to 5 and of the output, which it is added to. A convolution's kernel is a part of one tensor (Fig. 7),
    the first channels of both sides; a final network has just that part.
    """

    def __init__(self, config: NetworkConfig, held: Sequence[Sequence[int]]) -> None:
        super().__init__(config)
        self.cells, width = cells_of(config), int(config.width)
        self.only: _Cell | None = None  # the cell of a final network
        if all(len(values) == 1 for values in held):
            with torch.device("cpu"):  # the network may be built on the meta device
                self.only = _Cell.of([list(values) for values in held], self.cells)
        self.stem = ConvBNReLU(config.image_channels, width, 3)
        self.layers, self.projections = nn.ModuleList(), nn.ModuleList()
        for inputs, outputs in self.cells:
            widest = dict.fromkeys(range(1, VERTICES), outputs)
            operations = dict(zip(INNER, held[EDGES:], strict=True))
            projected = list(widest)
            if self.only is not None:
                widest = self.only.channels[outputs]
                operations = {v: operations[v] for v in INNER if widest[v]}
                projected = [v for v in widest if 0 in self.only.sources[v]]
            self.projections.append(nn.ModuleDict({str(v): ConvBNReLU(inputs, widest[v], 1) for v in projected}))
            for v in INNER:
                self.layers.append(ChoiceBlock({o: _operation(o, widest[v]) for o in operations.get(v, ())}))
        self.pool = nn.MaxPool2d(2, ceil_mode=True)  # images of odd size, too; the benchmark's are even
        last = self.cells[-1][1]
        self.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, config.classes))
        self.to(memory_format=torch.channels_last)

    def path(self, architecture: Int64[Tensor, "s"] | Int64[Tensor, "s m"] | None) -> list[list[int]]:
        """The values of the 26 slots; without an architecture those of a final network."""
        return self.only.path if architecture is None and self.only is not None else super().path(architecture)

    def steps(self, path: list[list[int]], gates: Float[Tensor, "s m"] | None = None) -> Iterator[Step]:
        """As in `Supernet`, of one architecture; gates have no meaning where edges decide how wide the others are."""
        if gates is not None:
            raise ValueError("space nasbench101 has no mixtures of operations")
        # of a final network it is known already: an export can't look into tensors
        the_cell = self.only if self.only and self.only.path == path else _Cell.of(path, self.cells)
        choices = self.choice_blocks
        yield Step("stem", partial(self.stem, outputs=self.cells[0][0]), [self.stem])
        for cell, (_, outputs) in enumerate(self.cells):
            if cell and cell % self.config.layers == 0:
                yield Step("pool", self.pool, [])
            projections: Any = self.projections[cell]
            for v, width in the_cell.channels[outputs].items():
                sources, module, key = the_cell.sources[v], None, (v, the_cell.sources[v])
                if not sources:
                    continue
                if v != OUTPUT:
                    operation = the_cell.operations[v - 1]
                    (module,) = choices[len(INNER) * cell + v - 1].named([operation])
                    key = (*key, operation, width)
                projection = projections[str(v)] if 0 in sources else None
                parts = [part for part in (projection, module) if part is not None]
                yield Step(key, partial(_vertex, v, sources, width, projection, module), parts)
        yield Step("classifier", self.classifier, [self.classifier])


def _operation(operation: int, channels: int) -> nn.Module:
    """(b, c, h, w) -> the same shape, c at most `channels`"""
    if operation < len(KERNELS):
        return ConvBNReLU(channels, channels, KERNELS[operation])
    return nn.MaxPool2d(3, stride=1, padding=1)


class _Cell(NamedTuple):
    """One pruned cell, in plain numbers."""

    path: list[list[int]]
    operations: list[int]  # of the inner vertices
    sources: dict[int, tuple[int, ...]]  # of the edges into each vertex but the input; none if it is pruned
    channels: dict[int, dict[int, int]]  # of each vertex but the input, by the channels of the cell's output

    @classmethod
    def of(cls, path: list[list[int]], cells: list[tuple[int, int]]) -> "_Cell":
        """`cells` are the network's, whose channels the vertices share."""
        row = prune(torch.tensor([[value for (value,) in path]]))
        bits, vertices = row[0].tolist(), range(1, VERTICES)
        widths = list(dict.fromkeys(outputs for _, outputs in cells))
        channels = vertex_channels(row.repeat(len(widths), 1), torch.tensor(widths)).tolist()
        return cls(
            path,
            bits[EDGES:],
            {v: tuple(source for source in range(v) if bits[edge(source, v)]) for v in vertices},
            {outputs: {v: of[v] for v in vertices} for outputs, of in zip(widths, channels, strict=True)},
        )


States = dict[int, Tensor]
"""What the vertices of a cell hold so far."""


def _vertex(
    number: int,
    sources: tuple[int, ...],
    channels: int,
    projection: nn.Module | None,
    operation: nn.Module | None,
    states: Tensor | States,
) -> Tensor | States:
    """The operation of the sum of what comes in, of each the first channels; the projection is of the cell's input.

    The output has no operation: what comes from inner vertices is concatenated, and the projected input added.
    """
    states = {0: states} if isinstance(states, Tensor) else states
    inner = [states[source] for source in sources if source]
    projected = [] if projection is None else [projection(states[0], channels)]
    if operation is not None:
        return {**states, number: operation(reduce(add, [state[:, :channels] for state in inner] + projected))}
    return reduce(add, ([torch.cat(inner, dim=1)] if len(inner) > 1 else inner) + projected)


@dataclass(frozen=True)
class NASBench101Cost:
    """Multiply-adds and parameters of whole populations: each cell's channels decide what its vertices cost."""

    config: NetworkConfig

    def __call__(self, population: Population) -> Costs:
        """Multiply-adds of convolutions and the linear layer for one image, and parameters, of (n, 26)."""
        config, cells, channels_of_cells = self.config, prune(population), cells_of(self.config)
        living, operations = alive(population)[:, 1:OUTPUT], cells[:, EDGES:]
        kernels = torch.tensor([*(kernel**2 for kernel in KERNELS), 0])[operations] * living
        size, width, last = config.image_size, channels_of_cells[0][0], channels_of_cells[-1][1] * config.classes
        stem = 9 * config.image_channels * width
        flops = torch.full((len(population),), stem * size**2 + last)
        params = torch.full((len(population),), stem + 2 * width + last + config.classes)
        for cell, (inputs, outputs) in enumerate(channels_of_cells):
            if cell and cell % config.layers == 0:
                size = -(-size // 2)
            channels = vertex_channels(cells, torch.full((len(cells),), outputs))
            projected = torch.stack([cells[:, edge(0, v)] for v in range(1, VERTICES)], dim=1) * channels[:, 1:]
            inner = channels[:, 1:OUTPUT]
            weights = (kernels * inner**2).sum(1) + inputs * projected.sum(1)
            flops += weights * size**2
            params += weights + 2 * ((kernels > 0) * inner).sum(1) + 2 * projected.sum(1)  # batch norm's
        return Costs(flops, params)

    def cheapest(self, name: str) -> tuple[Int64[Tensor, "26"], int]:
        """Four poolings that share one projection to a quarter of the channels.

        More vertices can't feed the output: each needs an edge from it and one into it, and there are nine.
        """
        fed = range(2, OUTPUT)
        return self._of([(0, 1), *((1, v) for v in fed), *((v, OUTPUT) for v in fed)], 2, name)

    def most(self, name: str) -> int:
        """Of five 3x3 convolutions in a row, the input projected to three more of them: all are as wide as can be."""
        return self._of([*((v, v + 1) for v in range(OUTPUT)), (0, 2), (0, 3), (0, 4)], 0, name)[1]

    def _of(self, edges: list[tuple[int, int]], operation: int, name: str) -> tuple[Int64[Tensor, "26"], int]:
        cell = torch.zeros(EDGES + len(INNER), dtype=torch.int64)
        cell[[edge(*ends) for ends in edges]] = 1
        cell[EDGES:] = operation
        return cell, int(getattr(self(cell[None]), name))


class NASBench101ImageSpace(ImageSpace):
    """The width is the channels of the stem and the first stack, doubled in the second and third; >= 5, so that each
    vertex has one. Layers are the cells of a stack. 128 and 3 are the benchmark's, on images of 32 pixels.
    """

    name, network_class = "nasbench101", NASBench101
    default_width, default_layers = 16, 1
    width_rule = len(INNER), 1, "128 = the benchmark's"
    widths = (128, 96, 64, 48, 32, 16)
    space = NASBench101Space()
    additive = False

    @cached_property
    def cost(self) -> NASBench101Cost:
        return NASBench101Cost(self.config)

    def drawing(self, architecture: Int64[Tensor, "26"]) -> Drawing:
        """Vertices with their operations; those on no path to the output are left out."""
        kept = alive(architecture[None])[0].nonzero()[:, 0].tolist()
        ends = {0: {"text": "input"}, OUTPUT: {"text": "output"}}
        slots = {v: EDGES + v - 1 for v in INNER}
        nodes = [ends.get(v) or {"slot": slots[v], "operation": int(architecture[slots[v]])} for v in kept]
        present = [pair for pair, bit in zip(PAIRS, architecture[:EDGES].tolist(), strict=True) if bit]
        edges = [[kept.index(a), kept.index(b)] for a, b in present if a in kept and b in kept]
        title = f"NAS-Bench-101 cell, {self.config.layers} in each stack, {self.config.width} channels"
        return draw_cells(title, [{"name": "cell", "nodes": nodes, "edges": edges}], SYMBOLS, OPERATIONS)
