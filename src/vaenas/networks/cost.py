"""Multiply-adds and parameters of whole populations, read off the network itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vaenas.networks.supernet import Supernet
from vaenas.spaces.space import Population


class Costs(NamedTuple):
    """What each architecture of a population costs, (n,) each."""

    multiply_adds: Int64[Tensor, "n"]  # of convolutions and linear layers for one image, "FLOPs" in the field
    params: Int64[Tensor, "n"]  # weights, batch norm's included
    latency: Int64[Tensor, "n"] | None = None  # nanoseconds for one image, where they were measured


@runtime_checkable
class Cost(Protocol):
    """What architectures of a space cost."""

    def __call__(self, population: Population) -> Costs:
        """The costs of (n, s)."""
        ...

    def cheapest(self, name: str) -> tuple[Int64[Tensor, "s"], int]:
        """The architecture with the least of a cost, which is a name of `Costs`, and that number."""
        ...

    def most(self, name: str) -> int:
        """The most that any architecture has of a cost."""
        ...


@dataclass(frozen=True)
class AdditiveCost:
    """Costs of a sequence space by their names in `Costs`: a constant plus one entry per slot and operation.

    Exact where a slot's operation changes nobody else's shapes, as in the ShuffleNet-like and NASNet-like spaces.
    """

    tables: Mapping[str, Int64[Tensor, "s k"]]
    constants: Mapping[str, int]  # stem, last convolution, classifier

    def __call__(self, population: Population) -> Costs:
        """The costs of (n, s)."""
        slots = torch.arange(population.shape[1])
        return Costs(
            **{name: table[slots, population].sum(-1) + self.constants[name] for name, table in self.tables.items()}
        )

    def cheapest(self, name: str) -> tuple[Int64[Tensor, "s"], int]:
        """The architecture with the least of a cost, which is a name of `Costs`, and that number."""
        values, architecture = self.tables[name].min(-1)
        return architecture, int(values.sum()) + self.constants[name]

    def most(self, name: str) -> int:
        """The most that any architecture has of a cost."""
        table = self.tables[name]
        return int(table.masked_fill(table == ABSENT, 0).amax(-1).sum()) + self.constants[name]


ABSENT = torch.iinfo(torch.int64).max // 2**16  # cost of an operation that a slot does not offer: never the cheapest


def count(module: nn.Module, *inputs: Tensor) -> tuple[int, int]:
    """(multiply-adds, parameters) of one call: half of torch's flop counter, which counts both."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*inputs)
    return counter.get_total_flops() // 2, sum(p.numel() for p in module.parameters())


@dataclass(frozen=True)
class Placed:
    """What a supernet holds, each at its place; and one valid path through it."""

    path: list[int]  # an operation for each slot
    entries: list[tuple[int, int, nn.Module, Tensor]]  # slot, operation, its module, an input of its shape

    def table(self, measure: Callable[[nn.Module, Tensor], Sequence[int]], rows: int) -> Int64[Tensor, "m s k"]:
        """The `rows` numbers that `measure` gives for each operation; of layers that share a slot they add up."""
        table = torch.full((rows, len(self.path), max(o for _, o, _, _ in self.entries) + 1), ABSENT)
        known: dict[tuple[str, torch.Size], Tensor] = {}  # modules that print alike are alike: a cell's repeats, mostly
        for slot, operation, _, _ in self.entries:
            table[:, slot, operation] = 0
        for slot, operation, module, x in self.entries:
            key = str(module), x.shape
            if key not in known:
                known[key] = torch.tensor(measure(module, x))
            table[:, slot, operation] += known[key]
        return table


def place(supernet: Supernet, image: Tensor) -> Placed:
    """Every operation of a supernet with the input that it gets from `image` (1, c, h, w)."""
    layers, slots = supernet.choice_blocks, supernet.layer_slots
    path = [0] * (max(slots) + 1)
    for slot, layer in zip(slots, layers, strict=True):
        path[slot] = layer.held[-1]  # the first one may be "none", which would leave the layer out
    inputs: list[Tensor] = []
    hooks = [layer.register_forward_pre_hook(lambda _, args: inputs.append(args[0])) for layer in layers]
    with torch.no_grad():
        supernet(image, torch.tensor(path))
    for hook in hooks:
        hook.remove()
    placed = zip(slots, layers, inputs, strict=True)
    return Placed(path, [(slot, o, layer.operations[str(o)], x) for slot, layer, x in placed for o in layer.held])


def additive_cost(build: Callable[[], Supernet]) -> AdditiveCost:
    """The cost table of the supernet that `build` makes: every operation counted once, at its place.

    Of layers that share a slot the costs add up. Nothing is computed or held: the network is built on torch's meta
    device.
    """
    with torch.device("meta"):
        supernet = build().eval()
        image = torch.empty(1, *supernet.input_shape)
    placed = place(supernet, image)
    multiply_adds, params = placed.table(count, 2)
    path = torch.tensor(placed.path)
    on_path = multiply_adds[torch.arange(len(path)), path].sum()
    every, chosen = (sum(p.numel() for p in module.parameters()) for module in (supernet, supernet.layers))
    return AdditiveCost(
        {"multiply_adds": multiply_adds, "params": params},
        {"multiply_adds": count(supernet, image, path)[0] - int(on_path), "params": every - chosen},
    )
