"""The NAS-Bench-101 space as App. A.5 samples it: 7 vertices, exactly 9 of 21 edges, 5 operations."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from pydantic import BaseModel, ConfigDict
from torch import Generator, Tensor

from vaenas.documents import from_json, short
from vaenas.errors import UserError
from vaenas.spaces import cells
from vaenas.spaces.cells import EDGES, MAX_EDGES, OPERATIONS
from vaenas.spaces.space import IsFeasible, Population, SearchSpace, gumbel, until_valid

SYMBOLS = "31p"  # of `cells.OPERATIONS`


@dataclass(frozen=True)
class NASBench101Space(SearchSpace):
    """Rows of 26 integers as in `vaenas.spaces.cells`; valid with exactly 9 edges and a path from input to output.

    The text code writes the edges into each vertex, from vertex 0 on, then the five operations:
    "0-01-000-1000-10111-100101-pp11p". `decode` also reads the adjacency matrix and the operations of 2 to 7 vertices:
    '{"matrix": [[0, 1], [0, 0]], "ops": ["input", "output"]}'.

    Args:
        only_full: valid are only cells that keep all 7 vertices, 1.5 % of the others' uniform draws.
    """

    name: str = "nasbench101"
    operations: tuple[str, ...] = ("01",) * EDGES + (SYMBOLS,) * 5
    groups: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 5)
    only_full: bool = False

    top_slots = EDGES, MAX_EDGES

    @property
    def full_cells(self) -> "NASBench101Space":
        """The cells that keep all 7 vertices."""
        return replace(self, only_full=True)

    @property
    def _keeps(self) -> IsFeasible:
        """What nine edges must keep: a path, or all vertices."""
        return cells.is_full if self.only_full else cells.connected

    def _until_valid(self, propose: Callable[[Int64[Tensor, "m"]], Population], otherwise: Population) -> Population:
        """In rounds enough for all but one uniform draw in a million."""
        return until_valid(propose, self._keeps, otherwise, 1000 if self.only_full else 100)

    def draw(self, logits: Float[Tensor, "n 26 3"], rng: Generator) -> Population:
        """One architecture per row of logits; zeros are uniform over the valid rows.

        App. A.5: an edge's number is l_1 - l_0 plus noise, the nine largest become edges, and a row is drawn anew until
        it is connected. The paper does not say that there is noise; it is Gumbel-max's, so that an operation and an
        edge are drawn alike. Rows that stay invalid (logits with next to no mass on valid cells) draw edges uniformly.
        """

        def propose(rows: Int64[Tensor, "m"]) -> Population:
            noisy = logits[rows] + gumbel(logits[rows].shape, rng)
            best = (noisy[:, :EDGES, 1] - noisy[:, :EDGES, 0]).topk(MAX_EDGES).indices
            edges = torch.zeros(len(rows), EDGES, dtype=torch.int64).scatter_(1, best, 1)
            return torch.cat([edges, noisy[:, EDGES:].argmax(-1)], dim=1)

        drawn = self._until_valid(propose, torch.zeros(len(logits), self.slots, dtype=torch.int64))
        rest = ~self._keeps(drawn)
        if rest.any():
            drawn[rest] = self.draw(logits[rest].index_fill(1, torch.arange(EDGES), 0.0), rng)
        return drawn

    def is_valid(self, population: Population) -> Bool[Tensor, "n"]:
        """Which rows have exactly 9 edges and a path from input to output, or all vertices on one."""
        in_range = super().is_valid(population)
        if not in_range.any():
            return in_range
        return in_range & (population[:, :EDGES].sum(-1) == MAX_EDGES) & self._keeps(population)

    def is_full(self, population: Population) -> Bool[Tensor, "n"]:
        """Which rows keep all 7 vertices when they are pruned."""
        return cells.is_full(population)

    def check_rules(self, population: Population) -> None:
        """Raises `UserError` for the first row that is no cell of the benchmark: fewer edges than nine are one, too."""
        cells.check(population)

    def mutate(self, population: Population, prob: float, rng: Generator) -> Population:
        """Each edge changes places with a random absent one, each operation is drawn anew, with probability `prob`.

        Repeated until valid; where that fails the row stays as it was.
        """

        def propose(rows: Int64[Tensor, "m"]) -> Population:
            parents = population[rows]
            edges, operations = parents[:, :EDGES], parents[:, EDGES:]
            leaving = (edges == 1) & (torch.rand(edges.shape, generator=rng) < prob)
            # as many of the absent edges, those with the smallest random numbers, come instead
            rank = torch.where(edges == 1, 2.0, torch.rand(edges.shape, generator=rng)).argsort(-1).argsort(-1)
            entering = (edges == 0) & (rank < leaving.sum(-1, keepdim=True))
            fresh = torch.randint(len(SYMBOLS), operations.shape, generator=rng)
            operations = torch.where(torch.rand(operations.shape, generator=rng) < prob, fresh, operations)
            return torch.cat([edges - leaving.long() + entering.long(), operations], dim=1)

        return self._until_valid(propose, population)

    def crossover(self, mothers: Population, fathers: Population, rng: Generator) -> Population:
        """The mother with one edge exchanged for one of the father's; operations from either with probability one half.

        App. A.5: of a random pair, an edge that only the mother has leaves and one that only the father has enters.
        Repeated until valid; where that fails, or the parents have the same edges, the mother's edges stay.
        """
        children = super().crossover(mothers, fathers, rng)
        children[:, :EDGES] = mothers[:, :EDGES]
        hers, his = (mothers > fathers)[:, :EDGES], (mothers < fathers)[:, :EDGES]

        def propose(rows: Int64[Tensor, "m"]) -> Population:
            exchanged = children[rows]
            for only, value in ((hers[rows], 0), (his[rows], 1)):
                edge = torch.where(only, torch.rand(only.shape, generator=rng), -1.0).argmax(-1, keepdim=True)
                kept = exchanged.gather(1, edge)
                exchanged.scatter_(1, edge, torch.where(only.any(-1, keepdim=True), value, kept))
            return exchanged

        return self._until_valid(propose, children)

    def features(self, population: Population) -> list[Float[Tensor, "n _"]]:
        """Paths, kinds of edges and the shape of the pruned cell: equal for isomorphic cells."""
        return cells.features(population)

    def own_text(self, architecture: Int64[Tensor, "26"]) -> str:
        """The matrix and the operations of the benchmark's API, as JSON."""
        matrix = cells.adjacency(architecture[None])[0].tolist()
        return json.dumps(
            {"matrix": matrix, "ops": ["input", *(OPERATIONS[o] for o in architecture[EDGES:]), "output"]}
        )

    def of_own_text(self, text: str) -> list[int] | None:
        """Of the JSON, of 2 to 7 vertices."""
        if not text.startswith("{"):
            return None
        try:
            cell = from_json(_Matrix, text)
            size = len(cell.matrix)
            if any(len(row) != size for row in cell.matrix):
                raise ValueError("matrix: must be square")
            matrix = torch.tensor(cell.matrix, dtype=torch.int64).reshape(1, size, size)
            return cells.from_matrices(matrix, [cell.ops])[0].tolist()
        except (ValueError, UserError) as error:
            raise UserError(f"architecture {short(text)}: {error}") from None

    def facts(self, architecture: Int64[Tensor, "26"]) -> dict[str, str | None]:
        """Also the benchmark's own hash."""
        valid = bool(self.is_valid(architecture[None])[0])
        return {**super().facts(architecture), "hash": cells.module_hash(architecture[None])[0] if valid else None}

    def keys(self, population: Population) -> Int64[Tensor, "n"]:
        """Equal for isomorphic cells."""
        return cells.canonical_key(population)

    def neighbours(self, architecture: Int64[Tensor, "26"]) -> Population:
        """All valid rows with one edge in another place or one other operation: at most 9 x 12 + 5 x 2."""
        edges = architecture[:EDGES]
        pairs = torch.cartesian_prod((edges == 1).nonzero()[:, 0], (edges == 0).nonzero()[:, 0])
        exchanged = architecture.repeat(len(pairs), 1)
        exchanged.scatter_(1, pairs[:, :1], 0).scatter_(1, pairs[:, 1:], 1)
        return torch.cat([exchanged[self._keeps(exchanged)], super().neighbours(architecture)])


class _Matrix(BaseModel):
    """A cell as the benchmark's API has it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    matrix: list[list[Literal[0, 1]]]
    ops: list[str]
