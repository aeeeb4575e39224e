"""Searches to compare with, all by ask and tell."""

from typing import Any

import torch
from torch import Generator, Tensor

from vaenas.blackbox.vae_search import AskTell
from vaenas.errors import UserError
from vaenas.spaces.space import ConstraintTooTight, IsFeasible, Population, Scores, SearchSpace


class RandomSearch(AskTell):
    """Uniform draws."""

    def ask(self, n: int, is_feasible: IsFeasible | None = None) -> Population:
        return self._uniform(n, is_feasible)


class RegularizedEvolution(AskTell):
    """Real et al. 2019, Algorithm 1: tournaments in a population of which the oldest dies; one change per child."""

    POPULATION, TOURNAMENT = 50, 10  # as NAS-Bench-101 (Ying et al. 2019) and BANANAS use it

    def ask(self, n: int, is_feasible: IsFeasible | None = None) -> Population:
        if len(self.scores) < self.POPULATION:
            return self._uniform(n, is_feasible)
        return torch.cat([self._child(is_feasible) for _ in range(n)])

    def _child(self, is_feasible: IsFeasible | None) -> Population:
        living, scores = self.population[-self.POPULATION :], self.scores[-self.POPULATION :]
        for _ in range(100):  # parents without a neighbour that may be asked for
            fighters = torch.randperm(len(living), generator=self.rng)[: self.TOURNAMENT]
            children = self._neighbours(living[fighters[scores[fighters].argmax()]], is_feasible)
            if len(children):
                return children[torch.randint(len(children), (1,), generator=self.rng)]
        return self._uniform(1, is_feasible)


class LocalSearch(AskTell):
    """White et al. 2021: label the neighbours of the best, move when one is better, begin anew where none is."""

    START = 10  # uniform labels of which the best is the first centre; one is the next where a search is stuck

    def __init__(self, space: SearchSpace, rng: Generator, repeats: bool = False) -> None:
        super().__init__(space, rng, repeats)
        self._centre: Tensor | None = None
        self._score = -torch.inf
        self._left = self.population

    def tell(self, population: Population, scores: Scores) -> None:
        super().tell(population, scores)
        best = int(scores.argmax())
        if float(scores[best]) > self._score:
            self._score, self._centre = float(scores[best]), population[best]
            self._left = self._left[:0]

    def ask(self, n: int, is_feasible: IsFeasible | None = None) -> Population:
        if len(self.scores) < self.START:
            return self._uniform(n, is_feasible)
        if not len(self._left) and self._centre is not None:
            near = self._neighbours(self._centre, is_feasible)
            self._left, self._centre = near[torch.randperm(len(near), generator=self.rng)], None
        if not len(self._left):
            self._score = -torch.inf
            return self._uniform(n, is_feasible)
        asked, self._left = self._left[:n], self._left[n:]
        return asked


class TPE(AskTell):
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
