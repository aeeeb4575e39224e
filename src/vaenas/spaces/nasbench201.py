"""NAS-Bench-201 (Dong & Yang 2020): a cell of 4 nodes and 6 edges, each one of five operations: 15,625 cells."""

import re
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vaenas.errors import UserError
from vaenas.spaces.space import Population, SearchSpace

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
SYMBOLS = "ns13p"
NONE = 0

SOURCES = (0, 0, 1, 0, 1, 2)  # of the edges into node 1, node 2 (two) and node 3 (three)
TARGETS = (1, 2, 2, 3, 3, 3)
TEXT = "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|"  # the benchmark's cell string
_CELL = re.compile(re.escape(TEXT).replace(re.escape("{}"), r"(\w+)"))


@dataclass(frozen=True)
class NASBench201Space(SearchSpace):
    """Slots in the order of the edges in the benchmark's cell strings, codes like "3-3p-s31" or these strings."""

    name: str = "nasbench201"
    operations: tuple[str, ...] = (SYMBOLS,) * 6
    groups: tuple[int, ...] = (1, 2, 3)

    def own_text(self, architecture: Int64[Tensor, "6"]) -> str:
        """The benchmark's cell string."""
        return TEXT.format(*(OPERATIONS[operation] for operation in architecture))

    def of_own_text(self, text: str) -> list[int] | None:
        """Of a cell string."""
        return parse(text) if text.startswith("|") else None

    def features(self, population: Population) -> list[Float[Tensor, "n _"]]:
        """Each edge's operation after `prune`, and how often each operation is there: what counts wherever it is."""
        pruned = prune(population)
        edges = super().features(pruned)
        # half: one edge with another operation moves two counts by 1, and is about as far as a slot's difference
        return [*edges, 0.5 * torch.nn.functional.one_hot(pruned, len(OPERATIONS)).float().sum(1)]


def prune(population: Int64[Tensor, "n 6"]) -> Int64[Tensor, "n 6"]:
    """The same networks with "none" on every edge that lies on no path from the cell's input to its output."""
    present = (population != NONE).T
    reached, reaching = torch.zeros(2, 4, len(population), dtype=torch.bool)
    reached[0] = reaching[3] = True
    edges = list(enumerate(zip(SOURCES, TARGETS, strict=True)))
    for edge, (source, target) in edges:  # by target, so the source is known
        reached[target] |= reached[source] & present[edge]
    for edge, (source, target) in reversed(edges):
        reaching[source] |= reaching[target] & present[edge]
    on_path = torch.stack([reached[source] & reaching[target] for _, (source, target) in edges], dim=1)
    return population * on_path


def parse(cell: str) -> list[int]:
    """The architecture of a cell string of the benchmark; raises `UserError` that names it and what is wrong with it.

    Example:
        >>> parse("|none~0|+|none~0|none~1|+|none~0|none~1|avg_pool_3x3~2|")
        [0, 0, 0, 0, 0, 4]
    """
    match = _CELL.fullmatch(cell)
    if match is None:
        raise UserError(f"cell {cell!r}: NAS-Bench-201 writes |op~0|+|op~0|op~1|+|op~0|op~1|op~2|")
    if unknown := [name for name in match.groups() if name not in OPERATIONS]:
        raise UserError(f"cell {cell!r}: unknown operation {unknown[0]!r}; known are {', '.join(OPERATIONS)}")
    return [OPERATIONS.index(name) for name in match.groups()]
