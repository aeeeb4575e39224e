"""Architectures as `report.draw_architecture` draws them: chains in stages, cells as graphs."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxtyping import Int64
from torch import Tensor

from vaenas.networks.network_config import NetworkConfig
from vaenas.spaces.space import SearchSpace

Drawing = dict[str, Any]
"""`records.Drawing`, as JSON has it."""


class Stage(NamedTuple):
    """Layers of a chain that are drawn together."""

    name: str
    output: str  # its shape, in words
    slots: int


def legend(symbols: str, names: Sequence[str]) -> list[dict[str, str]]:
    """The operations of a drawing."""
    return [{"symbol": symbol, "name": name} for symbol, name in zip(symbols, names, strict=True)]


def chain(
    title: str,
    config: NetworkConfig,
    space: SearchSpace,
    names: Sequence[str],
    stages: Sequence[Stage],
    architecture: Int64[Tensor, "s"],
    before: Sequence[str] = (),
    after: Sequence[str] = (),
) -> Drawing:
    """A sequence of layers, one for each slot.

    Args:
        names: of the operations, in the order of the slots' symbols, each once; none = the symbols are the names.
        before, after: what is the same in all architectures.
    """
    symbols = "".join(dict.fromkeys("".join(space.operations)))
    drawn = [symbols.index(space.operations[slot][operation]) for slot, operation in enumerate(architecture.tolist())]
    slots = iter([{"slot": slot, "operation": operation} for slot, operation in enumerate(drawn)])
    return {
        "title": title,
        "input": f"{config.image_channels} × {config.image_size} × {config.image_size}",
        "before": list(before),
        "groups": [
            {"name": s.name, "output": s.output, "slots": [next(slots) for _ in range(s.slots)]} for s in stages
        ],
        "after": [*after, f"Linear {config.classes}"],
        "operations": legend(symbols, names or symbols),
    }


class Graph:
    """A cell whose edges carry operations: nodes in the order of their computation, each the sum of what comes in."""

    def __init__(self, name: str, inputs: Sequence[str]) -> None:
        self.name = name
        self.nodes: list[dict[str, Any]] = [{"text": text} for text in inputs]
        self.edges: list[list[int]] = []
        self.places = list(range(len(inputs)))  # where the inputs and nodes stand among what is drawn

    def add(self, text: str, into: Sequence[tuple[int, int, int]]) -> None:
        """The next node, with the (source, slot, operation) of each edge into it."""
        first = len(self.nodes)
        for source, slot, operation in into:
            self.edges.append([self.places[source], len(self.nodes)])
            self.nodes.append({"slot": slot, "operation": operation})
        self.places.append(len(self.nodes))
        self.edges += [[box, len(self.nodes)] for box in range(first, len(self.nodes))]
        self.nodes.append({"text": text})

    def join(self, text: str, sources: Sequence[int]) -> None:
        """A node that only gathers others."""
        self.edges += [[self.places[source], len(self.nodes)] for source in sources]
        self.nodes.append({"text": text})

    def drawn(self) -> dict[str, Any]:
        return {"name": self.name, "nodes": self.nodes, "edges": self.edges}
