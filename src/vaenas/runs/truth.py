"""What a table of separately trained architectures says of a search that never saw it."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool
from torch import Generator, Tensor

from vaenas.bench.task import BEST_OF, Task, best_of
from vaenas.errors import UserError
from vaenas.evaluation.rank import kendall_tau, spearman_rho
from vaenas.evaluation.tabular import TabularBenchmark
from vaenas.records import Update, read_metrics
from vaenas.samplers.sampler import Sampler
from vaenas.search.search import Found
from vaenas.search.surrogate import predicted_scores
from vaenas.spaces.space import ConstraintTooTight, Population, Scores, draw_valid

DRAWS = 300  # of the sampler after each update
SPARSE_DRAWS = 3000  # of them where only some architectures have a label
FINAL_DRAWS = 6000  # of the final sampler with a label, whose best of k is asked for
PROPOSALS_PER_DRAW = 50  # for one that has a label, or there is no answer
TOP_SHARE = 0.1  # of the best, whose order is asked for by itself
FEWEST_RANKED = 10  # of fewer no order is reported


class Truth:
    """A table, asked only when a search has ended. Its random numbers are its own: the search's stay what they were."""

    def __init__(self, task: Task, seed: int) -> None:
        self.task, self.seed = task, seed
        # as the supernets call them: the task's space may see the rows that it lacks
        self.space = task.table.space

    @classmethod
    def open(cls, table: Path, space: str, seed: int, full_cells: bool) -> "Truth":
        """Raises `UserError` if there is no such table, or it is one of another space or knows hardly any draw."""
        benchmark = TabularBenchmark.open(table)
        benchmark.expect(space)
        task = Task(benchmark)
        if task.seven_vertices and not full_cells:
            raise UserError(
                f"--table {table}: it is labelled in part and judges cells with 7 vertices alone, hardly any of "
                f"what is drawn without --full-cells: add it, or import the whole benchmark"
            )
        return cls(task, seed)

    def draws(self, sampler: Sampler, step: int) -> list[str]:
        """Codes of what the sampler draws after `step` steps. The table is not asked."""
        n = DRAWS if self.task.is_feasible is None else SPARSE_DRAWS
        return self.space.encode(sampler.sample(n, self._rng(step)))

    def sample(self, n: int) -> Population:
        """Up to n different architectures whose truth is known, uniformly."""
        order = torch.randperm(len(self.task.population), generator=self._rng(0))
        return self.task.population[order[:n]]

    def report(
        self,
        sampler: Sampler,
        ranked: tuple[Population, Scores],
        found: Found,
        updates: Sequence[Update],
    ) -> dict[str, Any]:
        """`truth` of `result.json`.

        Args:
            sampler: as it is at the end.
            ranked: the sample and its scores on the final supernet.
            found: what the search ends with.
            updates: with the codes drawn after each.
        """
        every, true = self.task.truth(self.task.population), self.task.truth(ranked[0])
        best = self._best(found.population, found.predicted)
        return {
            "table": self.task.table.source,
            "measured": self.task.reported,
            "architectures": len(every),
            "optimum": self.task.optimum,
            "mean": float(every.mean()),
            "uniform_best_of": best_of_each(every),
            "best": best and {**best, "rank": 1 + int((every > best["accuracy"]).sum())},
            **_agreement(ranked[1], true),
            "surrogate": _agreement(predicted_scores(self.space, *ranked), true),
            "sample": {"scores": ranked[1].tolist(), "truth": true.tolist()},
            "draws": [self.mean(update) for update in updates],
            "best_of": self.best_of(sampler),
        }

    def _best(self, population: Population, scores: Scores) -> dict[str, Any] | None:
        """Of what the search has evaluated, its favourite whose truth is known."""
        known = self._known(population)
        if not known.any():
            return None
        favourite = population[known][scores[known].argmax()][None]
        return {"code": self.space.encode(favourite)[0], "accuracy": float(self.task.truth(favourite)[0])}

    def mean(self, update: Update) -> dict[str, Any]:
        """The true mean of the draws after one update, and of how many it is."""
        drawn = self.space.decode(update.draws)
        known = drawn[self._known(drawn)]
        mean = float(self.task.truth(known).mean()) if len(known) else None
        return {"step": update.step, "epoch": update.epoch, "mean": mean, "n": len(known)}

    def best_of(self, sampler: Sampler) -> dict[str, float] | None:
        """For each of `BEST_OF` the expected highest truth of so many draws; None where hardly any is known."""
        rng = self._rng(-1)
        try:
            drawn = draw_valid(
                lambda m: sampler.sample(m, rng),
                self._known,
                FINAL_DRAWS,
                max_proposals=PROPOSALS_PER_DRAW * FINAL_DRAWS,
            )
        except ConstraintTooTight:
            return None
        return best_of_each(self.task.truth(drawn))

    def _known(self, population: Population) -> Bool[Tensor, "n"]:
        """Which of (n, s) count and have a truth."""
        return self.task.is_feasible(population) if self.task.is_feasible else ~self.task.truth(population).isnan()

    def _rng(self, step: int) -> Generator:
        return Generator().manual_seed(1_000_003 * (self.seed + 1) + step)


def _agreement(scores: Scores, true: Scores) -> dict[str, float | None]:
    """Rank correlations of all and of the truly best, where there are enough; None for NaN, which is no JSON."""
    top = true >= true.quantile(1 - TOP_SHARE)
    found = {"kendall": kendall_tau(scores, true), "spearman": spearman_rho(scores, true)}
    found["kendall_top"] = kendall_tau(scores[top], true[top]) if int(top.sum()) >= FEWEST_RANKED else math.nan
    return {name: None if math.isnan(value) else value for name, value in found.items()}


def read_updates(metrics: Path) -> list[Update]:
    """The update records of a run's metrics; raises `UserError` where they are damaged."""
    records = read_metrics(metrics) if metrics.exists() else ()
    return [record for _, record in records if isinstance(record, Update) and record.draws]


def best_of_each(truth: Scores) -> dict[str, float]:
    """`best_of` for Table 4's numbers of draws."""
    return {str(k): best_of(truth, k) for k in BEST_OF if k <= len(truth)}
