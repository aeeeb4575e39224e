"""Searches to compare with, all by ask and tell."""

from typing import Any

import torch
from jaxtyping import Bool, Int64
from torch import Generator, Tensor

from vaenas.errors import UserError
from vaenas.spaces.space import (
    ConstraintTooTight,
    IsFeasible,
    Population,
    Scores,
    SearchSpace,
    draw_valid,
    first_of_equals,
)


class RandomSearch:
    """Uniform draws, and what all searches share: `ask` for architectures, label them, `tell`. Every label is kept.

    Attributes:
        repeats: whether an architecture may be asked for again.
        population, scores, keys: what was told, and `space.keys` of it; one architecture may have several labels.
    """

    def __init__(self, space: SearchSpace, rng: Generator, repeats: bool = False) -> None:
        self.space, self.rng, self.repeats = space, rng, repeats
        self.population: Population = torch.empty(0, space.slots, dtype=torch.int64)
        self.scores: Scores = torch.empty(0)
        self.keys = torch.empty(0, dtype=torch.int64)

    def ask(self, n: int, is_feasible: IsFeasible | None = None) -> Population:
        """(n, s) to be labelled, which keep `is_feasible`: here uniform draws, all different unless `repeats`."""
        drawn = self.population[:0]

        def is_new(population: Population) -> Bool[Tensor, "n"]:
            known = torch.isin(self.space.keys(population), self.space.keys(drawn))
            return self._is_allowed(population, is_feasible) & (self.repeats | ~known)

        while len(drawn) < n:
            wanted = 1 if len(drawn) else n
            more = draw_valid(lambda m: self.space.uniform(m, self.rng), is_new, wanted, "what may be asked for")
            drawn = torch.cat([drawn, more if self.repeats else more[first_of_equals(self.space.keys(more))]])
        return drawn

    def tell(self, population: Population, scores: Scores) -> None:
        """Labels of any architectures of the space: (n, s), and (n,) finite numbers, higher is better."""
        self.population = torch.cat([self.population, population])
        self.scores = torch.cat([self.scores, scores.float()])
        self.keys = torch.cat([self.keys, self.space.keys(population)])

    def means(self) -> tuple[Population, Scores]:
        """Each architecture once, in the order of its first label, and the mean of its labels."""
        _, inverse, counts = self.keys.unique(return_inverse=True, return_counts=True)
        means = torch.zeros(len(counts)).index_add(0, inverse, self.scores) / counts
        first = first_of_equals(self.keys)
        return self.population[first], means[inverse[first]]

    def best(self) -> Population:
        """The architecture (1, s) with the highest mean of its labels, the earlier of equals."""
        population, means = self.means()
        return population[means.argmax()][None]

    def _is_allowed(self, population: Population, is_feasible: IsFeasible | None) -> Bool[Tensor, "n"]:
        """Which of (n, s) may be asked for."""
        good = self.space.is_valid(population) if is_feasible is None else is_feasible(population)
        return good if self.repeats else good & ~torch.isin(self.space.keys(population), self.keys)

    def _neighbours(self, architecture: Int64[Tensor, "s"], is_feasible: IsFeasible | None) -> Int64[Tensor, "_ s"]:
        """Those that may be asked for."""
        near = self.space.neighbours(architecture)
        return near[self._is_allowed(near, is_feasible)]


class RegularizedEvolution(RandomSearch):
    """Real et al. 2019, Algorithm 1: tournaments in a population of which the oldest dies; one change per child."""

    POPULATION, TOURNAMENT = 50, 10  # as NAS-Bench-101 (Ying et al. 2019) and BANANAS use it

    def ask(self, n: int, is_feasible: IsFeasible | None = None) -> Population:
        if len(self.scores) < self.POPULATION:
            return super().ask(n, is_feasible)
        return torch.cat([self._child(is_feasible) for _ in range(n)])

    def _child(self, is_feasible: IsFeasible | None) -> Population:
        living, scores = self.population[-self.POPULATION :], self.scores[-self.POPULATION :]
        for _ in range(100):  # parents without a neighbour that may be asked for
            fighters = torch.randperm(len(living), generator=self.rng)[: self.TOURNAMENT]
            children = self._neighbours(living[fighters[scores[fighters].argmax()]], is_feasible)
            if len(children):
                return children[torch.randint(len(children), (1,), generator=self.rng)]
        return super().ask(1, is_feasible)


class LocalSearch(RandomSearch):
    """White et al. 2021: label the neighbours of the best, move when one is better, begin anew where none is."""

    START = 10  # uniform labels of which the best is the first centre; one is the next where a search is stuck

    _centre: Tensor | None = None  # whose neighbours are to be labelled next
    _score = -torch.inf
    _left: Population = torch.empty(0, 0, dtype=torch.int64)  # of its neighbours

    def tell(self, population: Population, scores: Scores) -> None:
        super().tell(population, scores)
        best = int(scores.argmax())
        if float(scores[best]) > self._score:
            self._score, self._centre = float(scores[best]), population[best]
            self._left = self._left[:0]

    def ask(self, n: int, is_feasible: IsFeasible | None = None) -> Population:
        if len(self.scores) < self.START:
            return super().ask(n, is_feasible)
        if not len(self._left) and self._centre is not None:
            near = self._neighbours(self._centre, is_feasible)
            self._left, self._centre = near[torch.randperm(len(near), generator=self.rng)], None
        if not len(self._left):
            self._score = -torch.inf
            return super().ask(n, is_feasible)
        asked, self._left = self._left[:n], self._left[n:]
        return asked


class TPE(RandomSearch):
    """The tree-structured Parzen estimator of Optuna, one categorical parameter per slot.

    NAS-Bench-101's edges are 21 numbers in [0, 1] of which the nine largest count (App. A.5). TPE cannot know which
    architectures a table has, and repeats itself: such a suggestion is moved to the nearest architecture that may be
    asked for (fewest slots differ).
    """

    def __init__(self, space: SearchSpace, rng: Generator, repeats: bool, listed: Population) -> None:
        super().__init__(space, rng, repeats)
        try:
            import optuna
        except ImportError as error:
            raise UserError("method tpe needs Optuna: pip install 'vaenas[bench]', or leave tpe out") from error
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        seed = int(torch.randint(2**31, (1,), generator=rng))
        self._study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
        self._listed = listed
        self._trials: list[Any] = []

    def ask(self, n: int, is_feasible: IsFeasible | None = None) -> Population:
        self._trials = [self._study.ask() for _ in range(n)]
        population = torch.tensor([self._suggest(trial) for trial in self._trials])
        for i in range(n):
            if not self._is_allowed(population[i : i + 1], is_feasible):
                left = self._listed[self._is_allowed(self._listed, None)]
                if not len(left):
                    raise ConstraintTooTight(f"all {len(self._listed)} architectures have a label")
                population[i] = left[(left != population[i]).sum(-1).argmin()]
        return population

    def tell(self, population: Population, scores: Scores) -> None:
        super().tell(population, scores)
        for trial, value in zip(self._trials, scores.tolist(), strict=True):
            self._study.tell(trial, value)

    def _suggest(self, trial: Any) -> list[int]:
        edges, present = self.space.top_slots
        numbers = torch.tensor([trial.suggest_float(f"edge{i}", 0, 1) for i in range(edges)])
        row = torch.zeros(edges, dtype=torch.int64).index_fill(0, numbers.topk(present).indices, 1)
        choices = self.space.choices
        rest = [trial.suggest_categorical(f"slot{i}", range(choices[i])) for i in range(edges, self.space.slots)]
        return row.tolist() + rest
