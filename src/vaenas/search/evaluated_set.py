"""What has been evaluated so far, each architecture once."""

from collections.abc import Generator

import torch
from jaxtyping import Bool, Float, Int64, Num
from torch import Tensor

from vaenas import parallel
from vaenas.evaluation.supernet import Evaluate
from vaenas.records import Record
from vaenas.spaces.space import Population, Scores, rows_in

TOGETHER = 16  # architectures between two points where a run can stop; more share more of their computation


class EvaluatedSet:
    """Different architectures and their scores, in the order of evaluation; look-ups take whole populations."""

    def __init__(self, slots: int, *measures: int) -> None:
        """With `measures` = m the "scores" are m numbers of each architecture."""
        self.population: Population = torch.empty(0, slots, dtype=torch.int64)
        self.scores: Tensor = torch.empty(0, *measures)

    def __len__(self) -> int:
        return len(self.scores)

    def missing(self, population: Population) -> Int64[Tensor, "_ s"]:
        """The rows that have no score yet, each once."""
        return torch.unique(population[~rows_in(population, self.population)], dim=0)

    def add(self, population: Population, scores: Float[Tensor, "n *m"]) -> None:
        """Rows that were `missing`, and their scores."""
        self.population = torch.cat([self.population, population])
        self.scores = torch.cat([self.scores, scores])

    def lookup(self, population: Population) -> Float[Tensor, "n *m"]:
        """The scores of rows that are all here, (n,)."""
        same = (population[:, None, :] == self.population[None, :, :]).all(-1)  # (n, m)
        if not bool(same.any(-1).all()):
            raise KeyError("an architecture that was never evaluated has no score")
        return self.scores[same.int().argmax(-1)]

    def best(self, n: int) -> Int64[Tensor, "_ s"]:
        """The n rows with the highest scores; the earlier of equals first."""
        return self.population[self.scores.argsort(descending=True, stable=True)[:n]]


def score(
    population: Population, evaluate: Evaluate, of: str, evaluated: EvaluatedSet | None = None
) -> Generator[Record, None, Scores]:
    """Evaluates what `evaluated` does not know, and adds it; returns the scores of all, (n,).

    A record tells of every few architectures that they are done, and `of` what.
    """
    evaluated = EvaluatedSet(population.shape[1]) if evaluated is None else evaluated
    todo, done = evaluated.missing(population), 0  # sorted, so that neighbours begin alike
    for part in todo.split(TOGETHER * parallel.world_size()) if len(todo) else ():
        evaluated.add(part, evaluate(part))
        done += len(part)
        yield Record("evaluation", {"of": of, "done": done, "total": len(todo)})
    return evaluated.lookup(population)


def pareto_front(scores: Float[Tensor, "n"], costs: Num[Tensor, "n"]) -> Bool[Tensor, "n"]:
    """Which architectures no other one beats: none is at least as accurate and as cheap, and better in one."""
    no_worse = (scores[None, :] >= scores[:, None]) & (costs[None, :] <= costs[:, None])  # [i, j]: j against i
    better = (scores[None, :] > scores[:, None]) | (costs[None, :] < costs[:, None])
    return ~(no_worse & better).any(-1)
