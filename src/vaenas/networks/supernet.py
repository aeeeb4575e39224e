"""What every supernet shares: layers that hold the weights of several operations, and paths through them."""

from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor, nn

N = TypeVar("N", bound=nn.Module)


class ChoiceLayer(nn.Module):
    """The operations of one slot; keys stay the operation indices, however many are held."""

    def __init__(self, operations: Mapping[int, nn.Module]) -> None:
        super().__init__()
        self.operations = nn.ModuleDict({str(index): module for index, module in operations.items()})

    @property
    def held(self) -> tuple[int, ...]:
        """Indices of the operations that have weights here."""
        return tuple(map(int, self.operations))

    def forward(self, x: Tensor, operation: int) -> Tensor:
        return self.operations[str(operation)](x)


class Supernet(nn.Module):
    """One network that holds every operation's weights; the architecture is an argument of `forward`.

    A subclass sets `input_shape` (c, h, w) and `layers`, one `ChoiceLayer` per slot. With one operation per
    slot it is a final network; the names of its weights are those of the supernet.
    """

    input_shape: tuple[int, int, int]
    layers: nn.ModuleList

    def forward(self, images: Tensor, architecture: Tensor | None = None) -> Tensor:
        raise NotImplementedError  # the subclass's

    def path(self, architecture: Tensor | None) -> list[int]:
        """The operation of each layer; without an architecture the only one that each layer holds."""
        if architecture is not None:
            return architecture.tolist()
        held = [layer.held for layer in self.layers if isinstance(layer, ChoiceLayer)]
        if any(len(operations) > 1 for operations in held):
            raise ValueError("a supernet needs an architecture: its layers hold more than one operation")
        return [operations[0] for operations in held]

    def _with_weights_of_path(self, final: N) -> N:
        """`final`, a network with fewer operations per layer, with the weights and buffers of this one."""
        mine = self.state_dict()
        final.load_state_dict({name: mine[name].clone() for name in final.state_dict()})
        return final
