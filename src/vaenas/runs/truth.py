"""What a table of separately trained architectures says of a search that never saw it."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Generator

from vaenas.bench.task import BEST_OF, Task, best_of, open_task
from vaenas.errors import UserError
from vaenas.evaluation.rank import kendall_tau, spearman_rho
from vaenas.records import Update, read_metrics
from vaenas.samplers.sampler import Sampler
from vaenas.search.search import Found, Search
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
        # the space as the supernets call it: the task's own may see the rows that it lacks
        self.task, self.seed, self.space = task, seed, task.table.space

    @classmethod
    def open(cls, table: Path, space: str, seed: int, full_cells: bool) -> "Truth":
        """Raises `UserError` if there is no such table, or it is one of another space or knows hardly any draw."""
        task = open_task(table, space)
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

    def report(self, search: Search, sample: Population, scores: Scores, found: Found, metrics: Path) -> dict[str, Any]:
        """`truth` of `result.json`.

        Args:
            search: as it is at the end.
            scores: of `sample` on the final supernet.
            metrics: of the run, with the codes drawn after each update.
        """
        task, known = self.task, self.task.counts(found.population)
        every, true, best = task.truth(task.population), task.truth(sample), None
        if known.any():  # of what the search has evaluated, its favourite whose truth is known
            favourite = found.population[known][found.predicted[known].argmax()][None]
            accuracy = float(task.truth(favourite)[0])
            rank = 1 + int((every > accuracy).sum())
            best = {"code": self.space.encode(favourite)[0], "accuracy": accuracy, "rank": rank}
        records = (record for _, record in read_metrics(metrics))
        updates = [record for record in records if isinstance(record, Update) and record.draws]
        return {
            "table": task.table.source,
            "measured": task.reported,
            "architectures": len(every),
            "optimum": task.optimum,
            "mean": float(every.mean()),
            "uniform_best_of": _best_of_each(every),
            "best": best,
            **_agreement(scores, true),
            "surrogate": _agreement(search.surrogate_to(sample, scores)(sample), true),
            "sample": {"scores": scores.tolist(), "truth": true.tolist()},
            "draws": [{"step": of.step, "epoch": of.epoch, **self.mean(of.draws)} for of in updates],
            "best_of": self.best_of(search.sampler),
        }

    def mean(self, codes: list[str]) -> dict[str, Any]:
        """The true mean of draws, and of how many it is."""
        drawn = self.space.decode(codes)
        known = drawn[self.task.counts(drawn)]
        return {"mean": float(self.task.truth(known).mean()) if len(known) else None, "n": len(known)}

    def best_of(self, sampler: Sampler) -> dict[str, float] | None:
        """For each of `BEST_OF` the expected highest truth of so many draws; None where hardly any is known."""
        propose, most = partial(sampler.sample, rng=self._rng(-1)), PROPOSALS_PER_DRAW * FINAL_DRAWS
        try:
            return _best_of_each(
                self.task.truth(draw_valid(propose, self.task.counts, FINAL_DRAWS, max_proposals=most))
            )
        except ConstraintTooTight:
            return None

    def _rng(self, step: int) -> Generator:
        return Generator().manual_seed(1_000_003 * (self.seed + 1) + step)


def _agreement(scores: Scores, true: Scores) -> dict[str, float | None]:
    """Rank correlations of all and of the truly best, where there are enough; None for NaN, which is no JSON."""
    top = true >= true.quantile(1 - TOP_SHARE)
    found = {"kendall": kendall_tau(scores, true), "spearman": spearman_rho(scores, true)}
    found["kendall_top"] = kendall_tau(scores[top], true[top]) if int(top.sum()) >= FEWEST_RANKED else math.nan
    return {name: None if math.isnan(value) else value for name, value in found.items()}


def _best_of_each(truth: Scores) -> dict[str, float]:
    """`best_of` for Table 4's numbers of draws."""
    return {str(k): best_of(truth, k) for k in BEST_OF if k <= len(truth)}
