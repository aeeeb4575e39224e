"""A space of which only listed rows exist: a user's table that does not hold every combination."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int64
from torch import Generator, Tensor

from vaenas.spaces.space import Population, SearchSpace

CHUNK = 2**24  # distances held at once


@dataclass(frozen=True)
class ListedSpace(SearchSpace):
    """Draws, mutants and children are moved to the nearest row of the list: the one with the most slots in common.

    Args:
        rows: (m, s), all different, m >= 1.
    """

    rows: Population = field(default_factory=lambda: torch.empty(0, 0, dtype=torch.int64))

    @property
    def size(self) -> int:
        """m, how many architectures there are."""
        return len(self.rows)

    def nearest(self, population: Population) -> Population:
        """For each of (n, s) the listed row with the most slots in common, the first of equals."""
        parts, rows = population.float().split(max(1, CHUNK // len(self.rows))), self.rows.float()
        return self.rows[torch.cat([torch.cdist(part, rows, p=0).argmin(1) for part in parts])]  # p = 0 counts

    def draw(self, logits: Float[Tensor, "n s k"], rng: Generator) -> Population:
        return self.nearest(super().draw(logits, rng))

    def uniform(self, n: int, rng: Generator) -> Population:
        """n of the rows, with replacement."""
        return self.rows[torch.randint(len(self.rows), (n,), generator=rng)]

    def is_valid(self, population: Population) -> Bool[Tensor, "n"]:
        """Which of (n, s) are listed."""
        valid = super().is_valid(population)
        valid[valid.clone()] = torch.isin(self.keys(population[valid]), self.keys(self.rows))
        return valid

    def mutate(self, population: Population, prob: float, rng: Generator) -> Population:
        return self.nearest(super().mutate(population, prob, rng))

    def crossover(self, mothers: Population, fathers: Population, rng: Generator) -> Population:
        return self.nearest(super().crossover(mothers, fathers, rng))

    def neighbours(self, architecture: Int64[Tensor, "s"]) -> Population:
        """The listed rows that differ from it in the fewest slots."""
        distances = (self.rows != architecture).sum(-1)
        others = distances[distances > 0]
        return self.rows[distances == others.min()] if len(others) else self.rows[:0]
