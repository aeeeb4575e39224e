"""Our own `Search(G, A, S_seeds)` of Algorithm 2, line 15: the architectures that a ridge surrogate puts first.

Evolution finds what the supernet errs about most: of many scores the highest are those that noise and the supernet's
own interactions raise. Here as many evaluations are spent otherwise: on the initial population, on uniform draws, from
which a ridge surrogate is made, and in the last round on the architectures that evolve on what it predicts.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Int64
from torch import Generator, Tensor

from vaenas.evaluation.supernet import Evaluate
from vaenas.records import Record
from vaenas.search.evaluated_set import score
from vaenas.search.evolution import Evolution
from vaenas.search.settings import EvolutionSettings
from vaenas.search.surrogate import RidgeSurrogate
from vaenas.spaces.space import IsFeasible, Population, Scores, SearchSpace, draw_valid

PREDICTED_GENERATIONS = 20  # of the evolution on predicted scores, which costs no evaluation


@dataclass
class SurrogateSearch(Evolution):
    """Rounds in place of generations, with `population` evaluations each."""

    uniform: Int64[Tensor, "_ *s"] = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))  # draws so far

    def run(
        self,
        space: SearchSpace,
        settings: EvolutionSettings,
        evaluate: Evaluate,
        is_feasible: IsFeasible,
        rng: Generator,
    ) -> Iterator[Record]:
        """To the last round. All that is drawn keeps `is_feasible`; the initial population must already."""
        last = settings.generations - 1
        for at in range(self.generation, settings.generations):
            if at == 0:
                drawn, population = "initial", self.initial
            elif at < last:
                drawn = "uniform"
                population = draw_valid(lambda n: space.uniform(n, rng), is_feasible, settings.population)
                self.uniform = torch.cat([self.uniform, population])
            else:
                drawn, population = "predicted", self._best_predicted(space, settings, is_feasible, rng)
            scores = yield from score(population, evaluate, "surrogate", self.evaluated)
            self.generation = at + 1
            yield Record("surrogate", {"round": at, "drawn": drawn, **self.told(scores)})

    def predicted(self, space: SearchSpace) -> Scores:
        """What a ridge surrogate to the uniform draws makes of all that is evaluated; without any the scores."""
        surrogate = self.surrogate(space)
        return surrogate(self.evaluated.population) if surrogate else self.evaluated.scores

    def surrogate(self, space: SearchSpace) -> RidgeSurrogate | None:
        """Of the uniform draws; None without any."""
        if len(self.uniform) == 0:
            return None
        return RidgeSurrogate(space, self.uniform, self.evaluated.lookup(self.uniform))

    def _best_predicted(
        self, space: SearchSpace, settings: EvolutionSettings, is_feasible: IsFeasible, rng: Generator
    ) -> Population:
        """The P highest predicted scores that an evolution finds."""
        known = self.evaluated
        surrogate = self.surrogate(space) or RidgeSurrogate(space, known.population, known.scores)
        evolution, longer = Evolution.start(known.population), replace(settings, generations=PREDICTED_GENERATIONS)
        for _ in evolution.run(space, longer, surrogate, is_feasible, rng):
            pass
        return evolution.evaluated.best(settings.population)
