"""What a table of separately trained architectures says of a search that never saw it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool
from torch import Generator, Tensor

from vaenas.bench.task import BEST_OF, Task, best_of
from vaenas.errors import UserError
from vaenas.evaluation.rank import kendall_tau, spearman_rho
from vaenas.evaluation.tabular import TabularBenchmark
from vaenas.samplers.sampler import Sampler
from vaenas.search.evaluated_set import EvaluatedSet
from vaenas.search.surrogate import predicted_scores
from vaenas.spaces.space import ConstraintTooTight, Population, Scores, draw_valid

DRAWS = 300  # of the sampler after each update
SPARSE = 10  # times as many where only some have a label
JUDGED = 6000  # draws of the final sampler, whose best of k is asked for
RARE = 50  # so many draws for one that has a label, or there is no answer
TOP = 0.1  # the share of the best whose order is asked for by itself
FEW = 10  # of fewer no order is reported


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
        n = DRAWS * (1 if self.task.is_feasible is None else SPARSE)
        return self.space.encode(sampler.sample(n, self._rng(step)))

    def sample(self, n: int) -> Population:
        """Up to n different architectures whose truth is known, uniformly."""
        order = torch.randperm(len(self.task.population), generator=self._rng(0))
        return self.task.population[order[:n]]

    def report(
        self,
        sampler: Sampler,
        ranked: EvaluatedSet,
        found: tuple[Population, Scores],
        updates: Sequence[Mapping[str, Any]],
    ) -> dict[str, Any]:
        """`truth` of `result.json`.

        Args:
            sampler: as it is at the end.
            ranked: the sample and its scores on the final supernet.
            found: all that the search has evaluated on the final supernet, and what it takes them to be predicted.
            updates: "step" and "draws" (codes) after each update.
        """
        task, truth = self.task, self.task.truth
        every, true = truth(task.population), truth(ranked.population)
        top = true >= true.quantile(1 - TOP)
        predicted = predicted_scores(self.space, ranked.population, ranked.scores)
        best = self._best(*found)
        return {
            "table": task.table.source,
            "measured": task.reported,
            "architectures": len(every),
            "optimum": task.optimum,
            "mean": float(every.mean()),
            "uniform_best_of": best_of_each(every),
            "best": best and {**best, "rank": 1 + int((every > best["accuracy"]).sum())},
            "kendall": _number(kendall_tau(ranked.scores, true)),
            "spearman": _number(spearman_rho(ranked.scores, true)),
            "kendall_top": _of_top(ranked.scores[top], true[top]),
            "surrogate": {
                "kendall": _number(kendall_tau(predicted, true)),
                "spearman": _number(spearman_rho(predicted, true)),
                "kendall_top": _of_top(predicted[top], true[top]),
            },
            "sample": {"scores": ranked.scores.tolist(), "truth": true.tolist()},
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

    def mean(self, update: Mapping[str, Any]) -> dict[str, Any]:
        """The true mean of the draws after one update, and of how many it is."""
        drawn = self.space.decode(update["draws"])
        known = drawn[self._known(drawn)]
        mean = float(self.task.truth(known).mean()) if len(known) else None
        return {"step": update["step"], "epoch": update["epoch"], "mean": mean, "n": len(known)}

    def best_of(self, sampler: Sampler) -> dict[str, float] | None:
        """For each of `BEST_OF` the expected highest truth of so many draws; None where hardly any is known."""
        rng = self._rng(-1)
        try:
            drawn = draw_valid(lambda m: sampler.sample(m, rng), self._known, JUDGED, max_proposals=RARE * JUDGED)
        except ConstraintTooTight:
            return None
        return best_of_each(self.task.truth(drawn))

    def _known(self, population: Population) -> Bool[Tensor, "n"]:
        """Which of (n, s) count and have a truth."""
        return self.task.is_feasible(population) if self.task.is_feasible else ~self.task.truth(population).isnan()

    def _rng(self, step: int) -> Generator:
        return Generator().manual_seed(1_000_003 * (self.seed + 1) + step)


def _of_top(scores: Scores, true: Scores) -> float | None:
    return _number(kendall_tau(scores, true)) if len(true) >= FEW else None


def _number(value: float) -> float | None:
    """None for NaN, which is no JSON."""
    return None if value != value else value


def read_updates(metrics: Path) -> list[dict[str, Any]]:
    """The update records of a run's metrics."""
    records = map(json.loads, metrics.read_text(encoding="utf-8").splitlines()) if metrics.exists() else ()
    return [record for record in records if record["kind"] == "update" and "draws" in record]


def best_of_each(truth: Scores) -> dict[str, float]:
    """`best_of` for Table 4's numbers of draws."""
    return {str(k): best_of(truth, k) for k in BEST_OF if k <= len(truth)}
