"""What every network shares: its sizes, layers that hold the weights of several operations, and paths through them."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import cycle
from operator import add, mul
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

LARGE = 96  # pixels


@dataclass(frozen=True)
class NetworkConfig:
    """Everything about a network but the choice of operations.

    Args:
        image_size: side of the square input in pixels, >= 16.
        image_channels: 1 or 3.
        classes: number of classes, >= 2.
        width: multiplies all channels, or is a number of channels: the space says which.
        layers: choice blocks, or cells, or cells in a stage: the space says which.
    """

    image_size: int
    image_channels: int
    classes: int
    width: float
    layers: int

    @property
    def large_images(self) -> bool:
        """Whether stems halve the image as at 224 pixels (ImageNet); smaller images keep their pixels."""
        return self.image_size >= LARGE


class ChoiceBlock(nn.Module):
    """The operations of one slot; keys stay the operation indices, however many are held."""

    def __init__(self, operations: Mapping[int, nn.Module]) -> None:
        super().__init__()
        self.operations = nn.ModuleDict({str(index): module for index, module in operations.items()})

    @property
    def held(self) -> tuple[int, ...]:
        """Indices of the operations that have weights here."""
        return tuple(map(int, self.operations))

    def named(self, operations: Sequence[int]) -> list[nn.Module]:
        """The modules of these operations."""
        return [self.operations[str(operation)] for operation in operations]

    def forward(self, x: Tensor, operations: Sequence[int], gates: Float[Tensor, "m"] | None = None) -> Tensor:
        """Σ_m gates[m] · operation_m(x); without gates the output of the one operation.

        Channels that operations pass on as they are (`passing`) are not gated: a gate weighs what an operation does.
        Only the named operations are computed.
        """
        outputs = [module(x) for module in self.named(operations)]
        if gates is None:
            (output,) = outputs
            return output
        mixed = reduce(add, map(mul, gates, outputs))  # a stack would copy all of them
        passing = getattr(self.operations[str(operations[0])], "passing", 0)
        return torch.cat([outputs[0][:, :passing], mixed[:, passing:]], dim=1) if passing else mixed


class Edge(NamedTuple):
    """An edge into a node of a cell."""

    source: int  # among the states of the cell
    layer: ChoiceBlock
    operations: list[int]  # without "none", which is never computed
    gates: Tensor | None

    def __call__(self, states: Sequence[Tensor]) -> Tensor:
        """What the edge brings."""
        return self.layer(states[self.source], self.operations, self.gates)


class Step(NamedTuple):
    """A part of a network's pass. What ran before it and `key` decide what it gives: equal steps can be shared."""

    key: Hashable
    run: Callable[[Any], Any]  # leaves what it is given as it is
    parts: Sequence[nn.Module]  # whose weights and batch norm it uses

    @classmethod
    def node(cls, into: Sequence[Edge], run: Callable[[Any], Any]) -> "Step":
        """A node of a cell, which the operations on the edges into it decide."""
        parts = [module for edge in into for module in edge.layer.named(edge.operations)]
        return cls(tuple(tuple(edge.operations) for edge in into), run, parts)


class Supernet(nn.Module):
    """One network that holds every operation's weights; the architecture is an argument of `forward`.

    A subclass takes (config, held), the operations that each slot holds: with all of them it is the supernet, with one
    per slot a final network; the names of their weights are the same. It sets `layers`, the `ChoiceBlock`s. A network
    that is a chain of one layer per slot sets `stem`, `head` and `classifier`, too; another kind says what its `steps`
    are.
    """

    layers: nn.ModuleList
    stem: nn.Module
    head: nn.Module
    classifier: nn.Module

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(c, h, w) of an image."""
        return self.config.image_channels, self.config.image_size, self.config.image_size

    @property
    def layer_slots(self) -> Sequence[int]:
        """The slot of each layer; layers that share one never share weights."""
        return range(len(self.layers))

    @property
    def choice_blocks(self) -> list[ChoiceBlock]:
        """`layers`, by their type."""
        return [layer for layer in self.layers if isinstance(layer, ChoiceBlock)]

    def steps(self, path: list[list[int]], gates: Float[Tensor, "s m"] | None = None) -> Iterator[Step]:
        """What `forward` does with images, part by part: each gets what the one before it gives.

        Args:
            path: the operations of each slot.
            gates: what each of them counts.
        """
        yield Step("stem", self.stem, [self.stem])
        for slot, (layer, operations) in enumerate(zip(self.choice_blocks, path, strict=True)):
            run = partial(layer, operations=operations, gates=None if gates is None else gates[slot])
            yield Step(tuple(operations), run, layer.named(operations))
        yield Step("head", lambda x: self.classifier(self.head(x)), [self.head, self.classifier])

    def edges(
        self, sources: Sequence[int], path: list[list[int]], gates: Float[Tensor, "s m"] | None, none: int
    ) -> list[Edge]:
        """The layers of a network of cells as their edges, cell by cell; `sources` are those of one cell's edges."""
        kept = [[i for i, operation in enumerate(operations) if operation != none] for operations in path]
        chosen = [[path[slot][i] for i in places] for slot, places in enumerate(kept)]
        of_slots = [None if gates is None else gates[slot, places] for slot, places in enumerate(kept)]
        layers = zip(cycle(sources), self.layer_slots, self.choice_blocks, strict=False)
        return [Edge(source, layer, chosen[slot], of_slots[slot]) for source, slot, layer in layers]

    def feature_map(self, state: Any) -> Tensor | None:
        """The feature map (b, c, h, w) in what a step gives; None within a cell."""
        return state if isinstance(state, Tensor) else None

    def forward(
        self, images: Tensor, architecture: Tensor | None = None, gates: Float[Tensor, "s m"] | None = None
    ) -> Tensor:
        """Logits (b, classes) of one architecture, or of a mixture.

        Args:
            images: (b, *input_shape), normalised.
            architecture: (s,) operation of each slot; may be left out in a final network. With gates (s, m): m
                operations of each slot.
            gates: what each of them counts in the slot's output.
        """
        # depthwise convolutions are 2-5 times faster so, on the CPU too
        x = images.contiguous(memory_format=torch.channels_last)
        for step in self.steps(self.path(architecture), gates):
            x = step.run(x)
        return x

    def with_auxiliary(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits of a final network, and those of its auxiliary tower, where it was built with one."""
        return self(images), None

    def path(self, architecture: Int64[Tensor, "s"] | Int64[Tensor, "s m"] | None) -> list[list[int]]:
        """The operations of each slot; without an architecture the only one that each layer holds."""
        if architecture is not None:
            return architecture.view(len(architecture), -1).tolist()
        layers = reversed([*zip(self.layer_slots, self.choice_blocks, strict=True)])
        held = {slot: list(layer.held) for slot, layer in layers}  # of layers that share a slot the first one's
        if any(len(operations) > 1 for operations in held.values()):
            raise ValueError("a supernet needs an architecture: its layers hold more than one operation")
        return [held[slot] for slot in sorted(held)]

    def subnet(self, architecture: Int64[Tensor, "s"], **options: Any) -> "Supernet":
        """The final network of one architecture, with this network's weights and buffers; options are its class's own.

        Where operations of several widths share a tensor, the first of its rows and columns are theirs.
        """
        kind: Any = type(self)
        final, mine = kind(self.config, [[o] for o in architecture.tolist()], **options), self.state_dict()
        cut = {name: tuple(map(slice, value.shape)) for name, value in final.state_dict().items()}
        final.load_state_dict({name: mine[name][part].clone() for name, part in cut.items()})
        return final
