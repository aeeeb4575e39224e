"""Multiply-adds and parameters of whole populations, read off the network itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vaenas.networks.supernet import ChoiceBlock, Supernet
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


ABSENT = torch.iinfo(torch.int64).max // 2**16  # cost of an operation that a slot does not offer: never the cheapest


def sums(table: Int64[Tensor, "s k"], population: Population) -> Int64[Tensor, "n"]:
    """Of each architecture the entries of its slots and operations, added up."""
    return table[torch.arange(population.shape[1]), population].sum(-1)


@dataclass(frozen=True)
class AdditiveCost:
    """Costs of a sequence space by their names in `Costs`: a constant plus one entry per slot and operation.

    Exact where a slot's operation changes nobody else's shapes, as in the ShuffleNet-like and NASNet-like spaces.
    """

    tables: Mapping[str, Int64[Tensor, "s k"]]
    constants: Mapping[str, int]  # stem, last convolution, classifier

    def __call__(self, population: Population) -> Costs:
        """As in `Cost`, and the others."""
        return Costs(**{name: sums(table, population) + self.constants[name] for name, table in self.tables.items()})

    def cheapest(self, name: str) -> tuple[Int64[Tensor, "s"], int]:
        values, architecture = self.tables[name].min(-1)
        return architecture, int(values.sum()) + self.constants[name]

    def most(self, name: str) -> int:
        table = self.tables[name]
        return int(table.masked_fill(table == ABSENT, 0).amax(-1).sum()) + self.constants[name]


def count(module: nn.Module, *inputs: Tensor) -> tuple[int, int]:
    """(multiply-adds, parameters) of one call: half of torch's flop counter, which counts both."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*inputs)
    return counter.get_total_flops() // 2, sum(p.numel() for p in module.parameters())


def tabulate(
    supernet: Supernet, image: Tensor, measure: Callable[[nn.Module, Tensor], Sequence[int]], rows: int
) -> tuple[Int64[Tensor, "m s k"], Int64[Tensor, "s"]]:
    """The `rows` numbers that `measure` gives for each operation at its place, and one valid path.

    Of layers that share a slot they add up.

    Args:
        measure: gets an operation, and what comes into it when `image` (1, c, h, w) goes along the path.
    """
    layers = list(zip(supernet.layer_slots, supernet.choice_blocks, strict=True))
    path = {slot: layer.held[-1] for slot, layer in layers}  # the first may be "none": it would leave the layer out
    table = torch.full((rows, len(path), 1 + max(max(layer.held) for _, layer in layers)), ABSENT)
    known: dict[tuple[str, torch.Size], Tensor] = {}  # modules that print alike are alike: a cell's repeats, mostly

    def note(slot: int, layer: nn.Module, args: Any) -> None:
        assert isinstance(layer, ChoiceBlock)
        for operation, module in zip(layer.held, layer.operations.values(), strict=True):
            key, so_far = (str(module), args[0].shape), table[:, slot, operation]
            if key not in known:
                known[key] = torch.tensor(measure(module, args[0]))
            table[:, slot, operation] = known[key] + so_far.masked_fill(so_far == ABSENT, 0)

    hooks = [layer.register_forward_pre_hook(partial(note, slot)) for slot, layer in layers]
    chosen = torch.tensor([path[slot] for slot in range(len(path))])
    with torch.no_grad():
        supernet(image, chosen)
    for hook in hooks:
        hook.remove()
    return table, chosen


def additive_cost(build: Callable[[], Supernet], kind: type[AdditiveCost] = AdditiveCost) -> AdditiveCost:
    """The cost table of the supernet that `build` makes: every operation counted once, at its place.

    Nothing is computed or held: the network is built on torch's meta device.
    """
    with torch.device("meta"):
        supernet = build().eval()
        image = torch.empty(1, *supernet.input_shape)
    (multiply_adds, params), path = tabulate(supernet, image, count, 2)
    on_path, in_layers = int(sums(multiply_adds, path[None])), sum(p.numel() for p in supernet.layers.parameters())
    whole = count(supernet, image, path)
    return kind(
        {"multiply_adds": multiply_adds, "params": params},
        {"multiply_adds": whole[0] - on_path, "params": whole[1] - in_layers},
    )
