"""Multiply-adds and parameters of whole populations, read off the network itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vaenas.networks.supernet import ChoiceLayer, Supernet
from vaenas.spaces.space import Population


class Costs(NamedTuple):
    """What each architecture of a population costs, (n,) each."""

    flops: Int64[Tensor, "n"]  # multiply-adds of convolutions and linear layers for one image, "FLOPs" in the field
    params: Int64[Tensor, "n"]  # weights, batch norm's included


@dataclass(frozen=True)
class AdditiveCost:
    """Cost of a sequence space: a constant plus one entry per slot and operation.

    Exact where a slot's operation changes nobody else's shapes, as in the ShuffleNet-like and NASNet-like spaces.
    """

    table: Int64[Tensor, "2 s k"]  # multiply-adds, parameters
    constant: Int64[Tensor, "2"]  # stem, last convolution, classifier

    def __call__(self, population: Population) -> Costs:
        """Costs of (n, s), in one gather."""
        chosen = self.table[:, torch.arange(population.shape[1]), population]  # (2, n, s)
        return Costs(*(chosen.sum(-1) + self.constant[:, None]))

    def cheapest(self, which: int) -> tuple[Int64[Tensor, "s"], int]:
        """The architecture with the fewest multiply-adds (`which` = 0) or parameters (1), and that number."""
        values, architecture = self.table[which].min(-1)
        return architecture, int(values.sum() + self.constant[which])


ABSENT = torch.iinfo(torch.int64).max // 2**16  # cost of an operation that a slot does not offer: never the cheapest


def count(module: nn.Module, *inputs: Tensor) -> tuple[int, int]:
    """(multiply-adds, parameters) of one call: half of torch's flop counter, which counts both."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*inputs)
    return counter.get_total_flops() // 2, sum(p.numel() for p in module.parameters())


def additive_cost(build: Callable[[], Supernet], slots: Sequence[int] | None = None) -> AdditiveCost:
    """The cost table of the supernet that `build` makes: every operation counted once, at its place.

    Nothing is computed or held: the network is built on torch's meta device.

    Args:
        slots: the slot of each layer, where layers share one; their costs add up. None: every layer is a slot.
    """
    with torch.device("meta"):
        supernet = build().eval()
        image = torch.empty(1, *supernet.input_shape)
    layers = [layer for layer in supernet.layers if isinstance(layer, ChoiceLayer)]
    slots = slots or range(len(layers))
    path = [0] * (max(slots) + 1)
    for slot, layer in zip(slots, layers, strict=True):
        path[slot] = layer.held[-1]  # the first one may be "none", which would leave the layer out

    inputs: list[Tensor] = []
    hooks = [layer.register_forward_pre_hook(lambda _, args: inputs.append(args[0])) for layer in layers]
    total = count(supernet, image, torch.tensor(path))
    for hook in hooks:
        hook.remove()

    table = torch.full((2, len(path), max(max(layer.held) for layer in layers) + 1), ABSENT)
    for slot, layer in zip(slots, layers, strict=True):
        table[:, slot, list(layer.held)] = 0
    known: dict[tuple[str, torch.Size], Tensor] = {}  # modules that print alike are alike: a cell's repeats, mostly
    for slot, layer, x in zip(slots, layers, inputs, strict=True):
        for operation in layer.held:
            module = layer.operations[str(operation)]
            key = str(module), x.shape
            if key not in known:
                known[key] = torch.tensor(count(module, x))
            table[:, slot, operation] += known[key]
    on_path = table[:, torch.arange(len(path)), torch.tensor(path)].sum(-1)
    everything_else = sum(p.numel() for p in supernet.parameters()) - sum(
        p.numel() for x in layers for p in x.parameters()
    )
    constant = torch.tensor([total[0] - int(on_path[0]), everything_else])
    return AdditiveCost(table, constant)
