"""What every supernet shares: layers that hold the weights of several operations, and paths through them."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float, Int64
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

    def forward(self, x: Tensor, operations: Sequence[int], gates: Float[Tensor, "m"] | None = None) -> Tensor:
        """Σ_m gates[m] · operation_m(x); without gates the output of the one operation.

        Channels that operations pass on as they are (`passing`) are not gated: a gate weighs what an operation does.
        Only the named operations are computed.
        """
        outputs = [self.operations[str(operation)](x) for operation in operations]
        if gates is None:
            (output,) = outputs
            return output
        mixed, *others = [gate * y for gate, y in zip(gates, outputs, strict=True)]
        for other in others:  # a stack would copy all of them
            mixed = mixed + other
        passing = getattr(self.operations[str(operations[0])], "passing", 0)
        return torch.cat([outputs[0][:, :passing], mixed[:, passing:]], dim=1) if passing else mixed


class Supernet(nn.Module):
    """One network that holds every operation's weights; the architecture is an argument of `forward`.

    A subclass sets `input_shape` (c, h, w) and `layers`, one `ChoiceLayer` per slot. With one operation per
    slot it is a final network; the names of its weights are those of the supernet.
    """

    input_shape: tuple[int, int, int]
    layers: nn.ModuleList

    def forward(
        self, images: Tensor, architecture: Tensor | None = None, gates: Float[Tensor, "s m"] | None = None
    ) -> Tensor:
        """Logits of one architecture (s,), or with gates of a mixture (s, m) of m operations per slot."""
        raise NotImplementedError  # the subclass's

    def path(self, architecture: Int64[Tensor, "s"] | Int64[Tensor, "s m"] | None) -> list[list[int]]:
        """The operations of each slot; without an architecture the only one that each layer holds."""
        if architecture is not None:
            return architecture.view(len(architecture), -1).tolist()
        held = [layer.held for layer in self.layers if isinstance(layer, ChoiceLayer)]
        if any(len(operations) > 1 for operations in held):
            raise ValueError("a supernet needs an architecture: its layers hold more than one operation")
        return [list(operations) for operations in held]

    def _with_weights_of_path(self, final: N) -> N:
        """`final`, a network with fewer operations per layer, with the weights and buffers of this one."""
        mine = self.state_dict()
        final.load_state_dict({name: mine[name].clone() for name in final.state_dict()})
        return final
