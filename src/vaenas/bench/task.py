"""A table as a task: what a search may ask for, what it observes, and what is reported of its choice."""

import math
from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from scipy import stats
from torch import Generator, Tensor

from vaenas.errors import UserError
from vaenas.evaluation.tabular import TabularBenchmark
from vaenas.spaces.listed import ListedSpace
from vaenas.spaces.space import IsFeasible, Population, Scores

BEST_OF = (10, 50, 100, 300)  # Table 4: the highest accuracy of so many draws


def best_of(values: Float[Tensor, "d"], k: int) -> float:
    """The expected best of k of d >= k draws, over all ways to choose them: less noise than one choice."""
    ordered = values.double().sort().values[k - 1 :]
    # the value at this rank is the best of C(rank - 1, k - 1) sets
    rank = torch.arange(k, len(values) + 1, dtype=torch.float64)

    def log_choose(n: Tensor, m: int) -> Tensor:
        return torch.lgamma(n + 1) - torch.lgamma(torch.tensor(m + 1.0)) - torch.lgamma(n - m + 1)

    weights = (log_choose(rank - 1, k - 1) - log_choose(rank[-1], k)).exp()
    return float((weights / weights.sum() * ordered).sum())


def interval(values: list[float], quantile: float | None = None) -> dict[str, float]:
    """Mean and half of the 95 % interval, by Student's t unless a quantile is given; 0 for one value."""
    x = torch.tensor(values, dtype=torch.float64)
    half = 0.0
    if len(x) > 1:
        quantile = quantile or float(stats.t.ppf(0.975, len(x) - 1))
        half = quantile * float(x.std()) / len(x) ** 0.5
    return {"mean": float(x.mean()), "ci95": half if math.isfinite(half) else 0.0}


class Task:
    """Search a table by its observed scores; the report is by the truth.

    Observed: validation at the largest budget; where there are several runs, one random run for each label, so that a
    repeated label is another training. Truth: the mean test accuracy where the table has test, else the mean of runs.

    Where NAS-Bench-101 is labelled in part (the 30,001-cell sample), only cells that keep all 7 vertices count: a small
    cell is drawn in very many ways, and rejecting unlabelled ones would leave little but those.

    Attributes:
        space: where to search: the table's, or of a user's own table without every combination its rows.
        population: all architectures that may be asked for.
        optimum: the best truth among them.
        noisy: whether a label is one of several runs.
        is_feasible: which architectures of `space` have a label; None where all have.
    """

    def __init__(self, table: TabularBenchmark) -> None:
        self.table, self.space, labelled = table, table.space, table.labelled()
        self.seven_vertices = not table.space.is_free and len(labelled) < len(table)
        if self.seven_vertices:
            labelled = labelled[table.space.is_full(labelled) & table.space.is_valid(labelled)]  # 9 edges, as App. A.5
        self.population = labelled
        if len(labelled) < 2:
            raise UserError(f"{table.name}: {len(labelled)} labelled architectures; a search needs 2 or more")
        self.noisy = table.runs > 1
        self.optimum = float(self.truth(labelled).max())
        if table.space.is_free and len(labelled) < table.space.size:
            self.space = ListedSpace(self.space.name, self.space.operations, self.space.groups, labelled)
        self.is_feasible: IsFeasible | None = None if table.space.is_free else self.counts

    def shown(self, value: float) -> float:
        """A score in the units of a user's own file; an accuracy in [0, 1] as it is."""
        return self.table.offset + self.table.scale * value if self.table.slots else value

    def counts(self, population: Population) -> Bool[Tensor, "n"]:
        """Which of (n, s) have a label that counts."""
        if not self.seven_vertices:
            return self.table.known(population)
        counts = self.table.space.is_full(population)
        counts[counts.clone()] = self.table.known(population[counts])
        return counts

    def observe(self, population: Population, rng: Generator) -> Scores:
        """A label for each of (n, s)."""
        if not self.noisy:
            return self.table.validation(population)
        runs = torch.stack([self.table.validation(population, run=run) for run in range(self.table.runs)], dim=1)
        chosen = torch.where(runs.isnan(), -1.0, torch.rand(runs.shape, generator=rng)).argmax(1, keepdim=True)
        return runs.gather(1, chosen)[:, 0]

    def truth(self, population: Population) -> Scores:
        """What is reported of (n, s)."""
        return self.table.test(population) if self.table.has_test else self.table.validation(population)

    @property
    def reported(self) -> str:
        """What `truth` is, in words."""
        what = "mean test accuracy" if self.table.has_test else self.table.measured
        if self.noisy and not self.table.has_test:
            what = f"mean of {self.table.runs} runs: {what}"
        return what + (", 7-vertex cells" if self.seven_vertices else "")


@lru_cache(maxsize=1)
def open_task(table: Path, space: str | None = None) -> Task:
    """The task of a table file, of this space if one is named; the last one is kept, for a process's next job."""
    opened = TabularBenchmark.open(table)
    if space is not None:
        opened.expect(space)
    return Task(opened)
