"""The network of the NASNet-like space (App. A.4): DARTS's (Liu et al. 2018b), supernet and final one in one class."""

from collections.abc import Iterator, Sequence
from functools import cached_property, partial, reduce
from operator import add
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from vaenas.errors import UserError
from vaenas.networks.cost import AdditiveCost, additive_cost
from vaenas.networks.drawing import Drawing, draw_cell, draw_cells
from vaenas.networks.image_space import ImageSpace
from vaenas.networks.ops import DepthwiseConv2d, DropPath, conv_bn, relu_conv_bn
from vaenas.networks.supernet import ChoiceBlock, Edge, NetworkConfig, Step, Supernet
from vaenas.spaces.nasnet import EDGES, INPUTS, KINDS, NODES, NONE, OPERATIONS, SLOTS, SYMBOLS, NASNetSpace


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
        # picked before the convolutions for the reason that `macro.Subsample` has
        x = self.relu(x)
        even, odd = x[:, :, ::2, ::2], x[:, :, 1::2, 1::2]
        missing = (0, even.shape[3] - odd.shape[3], 0, even.shape[2] - odd.shape[2])
        if any(missing):
            odd = nn.functional.pad(odd, missing)
        return self.norm(torch.cat([self.even(even), self.odd(odd)], dim=1))


def separable(channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> list[nn.Module]:
    """ReLU, depthwise and pointwise convolution, batch norm."""
    depthwise = DepthwiseConv2d(channels, kernel, stride, dilation * (kernel // 2), dilation)
    return [nn.ReLU(), depthwise, *conv_bn(channels, channels, 1)]


def make_operation(index: int, channels: int, stride: int, drop_path: DropPath) -> nn.Module:
    """One operation of one edge, (b, channels, h, w) -> (b, channels, ⌈h / stride⌉, ⌈w / stride⌉).

    Args:
        index: into `spaces.nasnet.OPERATIONS`.
        stride: 2 on a reduction cell's edges from its inputs, else 1.
        drop_path: the network's; it acts on everything but the identity.
    """
    modules: list[nn.Module]
    match name := OPERATIONS[index]:
        case "skip_connect" if stride == 2:
            modules = [FactorizedReduce(channels, channels)]
        case "skip_connect" | "none":  # which is never computed
            return nn.Identity()
        case "avg_pool_3x3":
            modules = [nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)]
        case "max_pool_3x3":
            modules = [nn.MaxPool2d(3, stride, padding=1)]
        case "dil_conv_3x3":
            modules = separable(channels, 3, stride, dilation=2)
        case _:  # sep_conv_3x3, 5x5 or 7x7: applied twice
            modules = [*separable(channels, int(name[-1]), stride), *separable(channels, int(name[-1]))]
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


def reductions_of(layers: int) -> tuple[int, int]:
    """Cells that halve the image and double the channels; the auxiliary tower stands on the second."""
    return layers // 3, 2 * layers // 3


class NASNet(Supernet):
    """Stem, cells, classifier. `layers` are the edges cell by cell; cells of one kind share slots, never weights.

    Args:
        auxiliary: whether to add the auxiliary tower, for training (its parameters count in no published figure).
        drop_path: probability that an edge other than the identity drops an image while training, in [0, 1); a
            schedule sets `drop_path.probability`.
    """

    def __init__(
        self, config: NetworkConfig, held: Sequence[Sequence[int]], auxiliary: bool = False, drop_path: float = 0.0
    ) -> None:
        super().__init__(config)
        self.drop_path = DropPath(drop_path)
        width, large = int(config.width), config.large_images
        if large:
            halved = [*conv_bn(config.image_channels, width // 2, 3, stride=2), nn.ReLU(inplace=True)]
            self.stem0 = nn.Sequential(*halved, *conv_bn(width // 2, width, 3, stride=2))
            self.stem1: nn.Module = nn.Sequential(nn.ReLU(), *conv_bn(width, width, 3, stride=2))
            before = previous = width
        else:
            self.stem0 = nn.Sequential(*conv_bn(config.image_channels, 3 * width, 3))
            self.stem1 = nn.Identity()
            before = previous = 3 * width

        self.inputs, self.layers = nn.ModuleList(), nn.ModuleList()
        slots = iter(self.layer_slots)
        halve_before = large  # whether c_{k-2} is twice as large as c_{k-1}
        for cell in range(config.layers):
            reduction = cell in reductions_of(config.layers)
            width *= 2 if reduction else 1
            self.inputs.append(FactorizedReduce(before, width) if halve_before else relu_conv_bn(before, width, 1))
            self.inputs.append(relu_conv_bn(previous, width, 1))
            for source, _ in EDGES:
                stride = 2 if reduction and source < INPUTS else 1
                of_slot = held[next(slots)]
                self.layers.append(ChoiceBlock({o: make_operation(o, width, stride, self.drop_path) for o in of_slot}))
            before, previous, halve_before = previous, NODES * width, reduction
        self.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(previous, config.classes))
        last_size = -(-config.image_size // (32 if large else 4))  # from the second reduction on
        self.auxiliary = auxiliary_tower(previous, config.classes, last_size, large) if auxiliary else None
        self.to(memory_format=torch.channels_last)

    @property
    def layer_slots(self) -> list[int]:
        """Cells of one kind share their slots."""
        reductions = reductions_of(self.config.layers)
        cells = range(self.config.layers)
        return [len(EDGES) * (cell in reductions) + edge for cell in cells for edge in range(len(EDGES))]

    def steps(self, path: list[list[int]], gates: Float[Tensor, "s m"] | None = None) -> Iterator[Step]:
        """As in `Supernet`; "none" is never computed, and every node needs another operation."""
        edges = self.edges([source for source, _ in EDGES], path, gates, NONE)
        yield Step("stem", self._stem, [self.stem0, self.stem1])
        for cell in range(self.config.layers):
            fit = list(self.inputs[2 * cell : 2 * cell + 2])
            yield Step("inputs", partial(_enter, fit), fit)
            for node in range(INPUTS, INPUTS + NODES):
                first = len(EDGES) * cell + EDGES.index((0, node))
                into = edges[first : first + node]
                if not any(edge.operations for edge in into):
                    raise ValueError(f"node {node} of cell {cell} has no operation other than none")
                yield Step.node(into, partial(_add_node, into))
        yield Step("classifier", lambda flow: self.classifier(flow.output), [self.classifier])

    def feature_map(self, state: Any) -> Tensor | None:
        """As in `Supernet`."""
        if isinstance(state, _Flow):
            return state.output if len(state.states) in (1, INPUTS + NODES) else None
        return super().feature_map(state)

    def with_auxiliary(self, images: Tensor, architecture: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """As in `Supernet`, or of one architecture."""
        if self.auxiliary is None:
            return self(images, architecture), None
        x: Any = images.contiguous(memory_format=torch.channels_last)
        reduced, end = x, (1 + NODES) * (1 + reductions_of(self.config.layers)[1])  # of the second reduction cell
        for i, step in enumerate(self.steps(self.path(architecture))):
            x = step.run(x)
            reduced = x.output if i == end else reduced
        return x, self.auxiliary(reduced)

    def _stem(self, images: Tensor) -> "_Flow":
        before = self.stem0(images)
        return _Flow(before, (self.stem1(before),))


class _Flow(NamedTuple):
    """What goes from step to step."""

    before: Tensor  # the output of the cell before
    states: tuple[Tensor, ...]  # of this cell: its two inputs, then its nodes so far; or the stem's output alone

    @property
    def output(self) -> Tensor:
        """Of this cell, or of the stem."""
        return self.states[0] if len(self.states) == 1 else torch.cat(self.states[INPUTS:], dim=1)


def _enter(fit: Sequence[nn.Module], flow: _Flow) -> _Flow:
    """Begins the next cell: its inputs, brought to its channels."""
    output = flow.output
    return _Flow(output, (fit[0](flow.before), fit[1](output)))


def _add_node(into: Sequence[Edge], flow: _Flow) -> _Flow:
    """The next node: the sum of the edges into it."""
    terms = [edge(flow.states) for edge in into if edge.operations]
    return flow._replace(states=(*flow.states, reduce(add, terms)))


class NASNetCost(AdditiveCost):
    """`AdditiveCost` of the NASNet-like space, where "none" costs nothing and every node needs something else."""

    def cheapest(self, name: str) -> tuple[Int64[Tensor, "s"], int]:
        """As in `AdditiveCost`, of the valid architectures."""
        architecture, start = torch.full((SLOTS,), NONE), 0
        for length in NASNetSpace().groups:
            costs = self.tables[name][start : start + length, NONE + 1 :]  # (edges of the node, operations)
            edge, operation = divmod(int(costs.argmin()), costs.shape[1])
            architecture[start + edge] = NONE + 1 + operation
            start += length
        return architecture, int(getattr(self(architecture[None]), name))


class NASNetImageSpace(ImageSpace):
    """The width is C, the channels of each node in the first cells; layers are the cells.

    36 and 20 on CIFAR-10, 48 and 14 on ImageNet are the paper's. From images of 96 pixels on the stem halves them three
    times, else it is one convolution, both as in DARTS (Liu et al. 2018b).
    """

    name, network_class = "nasnet", NASNet
    default_width, default_layers = 8, 5
    width_rule = 2, 2, "36 and 48 = paper"
    widths = (48, 36, 24, 16, 8)
    space = NASNetSpace()
    none = NONE
    has_auxiliary = True

    @classmethod
    def checked(cls, config: NetworkConfig) -> NetworkConfig:
        if config.layers < 3:
            raise UserError(f"layers {config.layers}: space nasnet has reductions at 1/3 and 2/3 of its cells, so >= 3")
        return super().checked(config)

    @cached_property
    def cost(self) -> AdditiveCost:
        """The auxiliary tower left out."""
        return additive_cost(self.supernet, NASNetCost)

    def drawing(self, architecture: Int64[Tensor, "28"]) -> Drawing:
        """As in Figs. 4 and 5: of each cell the edges other than "none"."""
        operations, drawn, inner = iter(enumerate(architecture.tolist())), [], range(INPUTS, INPUTS + NODES)
        for kind in KINDS:
            edges = [[(source, *next(operations)) for source in range(node)] for node in inner]
            nodes = {str(i): [edge for edge in into if edge[2] != NONE] for i, into in enumerate(edges)}
            drawn.append(draw_cell(kind, ["c_{k-2}", "c_{k-1}"], nodes, output="c_{k}"))
        title = f"NASNet-like cells, {self.config.layers} layers, {self.config.width} channels"
        return draw_cells(title, drawn, SYMBOLS, OPERATIONS)
