"""What scores say of each part of an architecture: a ridge regression on the space's features, and a search by it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vaenas.evaluation.rank import mean_rank
from vaenas.search.evaluated_set import EvaluatedSet
from vaenas.search.evolution import Evolution
from vaenas.spaces.space import Population, Scores, SearchSpace, draw_valid

PENALTIES = torch.logspace(-3, 3, 25, dtype=torch.float64)  # of which the best is taken
PREDICTED_GENERATIONS = 20  # of the evolution on predicted scores, which costs no evaluation


class RidgeSurrogate:
    """score = constant + weights · features: no part's weight depends on the others.

    A supernet's scores have noise (a few thousand images) and interactions of its own (a layer's weights are trained
    behind the layers drawn below it, unevenly); both go with the fit, and what is left ranks stand-alone networks
    better than the scores that it was fitted to (docs/explanation/surrogate.md).

    The penalty on the weights minimises the generalised cross-validation error (Golub, Heath & Wahba 1979).
    """

    def __init__(self, space: SearchSpace, population: Population, scores: Scores) -> None:
        """Fits to n >= 1 architectures, (n, s) and (n,)."""
        self.space = space
        x, y = self._features(population), scores.double()
        self._centre, self._mean = x.mean(0), y.mean()
        u, values, v = torch.linalg.svd(x - self._centre, full_matrices=False)
        along = u.T @ (y - self._mean)  # (r,), what the data say along each direction
        kept = values.square() / (values.square() + PENALTIES[:, None])  # (penalties, r)
        errors = (y - self._mean).square().sum() - ((2 * kept - kept.square()) * along.square()).sum(-1)
        freedom = (len(y) - 1 - kept.sum(-1)).clamp(min=1e-9)
        best = kept[(errors / freedom.square()).argmin()]
        self._weights = v.T @ (best / values.clamp(min=1e-12) * along)

    def __call__(self, population: Population) -> Scores:
        """What it expects of (n, s): (n,)"""
        return (self._mean + (self._features(population) - self._centre) @ self._weights).float()

    def _features(self, population: Population) -> Float[Tensor, "n f"]:
        return torch.cat(self.space.features(population), dim=1).double()


Fuse = Callable[[Population, Scores], Scores]
"""What makes of the supernet's scores of a population what it is ranked by."""


class Fusion:
    """Ranks by the ridge surrogate to the supernet's scores and by training-free measures, none of which sees a label.

    The supernet errs about other architectures than the measures do: together they order better than each alone, on all
    of three spaces whose truth is known (docs/explanation/ranking.md).
    """

    def __init__(self, space: SearchSpace, measures: Callable[[Population], Float[Tensor, "n m"]], number: int) -> None:
        """`measures`: `number` of them for (n, s), higher is better; each architecture is measured once."""
        self.space, self.measures, self._known = space, measures, EvaluatedSet(space.slots, number)

    def __call__(self, population: Population, scores: Scores) -> Scores:
        """The `mean_rank` of (n, s) among themselves, (n,) in (0, 1]."""
        new = self._known.missing(population)
        if len(new):
            self._known.add(new, self.measures(new))
        expected = RidgeSurrogate(self.space, population, scores)(population)
        return mean_rank(torch.cat([expected[:, None], self._known.lookup(population)], dim=1))


def unfused(population: Population, scores: Scores) -> Scores:
    """The supernet's scores as they are."""
    return scores


@dataclass
class SurrogateSearch(Evolution):
    """Our own `Search(G, A, S_seeds)` of Algorithm 2, line 15: the architectures that a ridge surrogate puts first.

    Evolution finds what the supernet errs about most: of many scores the highest are those that noise and the
    supernet's own interactions raise. Here as many evaluations are spent otherwise: on the initial population, on
    uniform draws, from which a ridge surrogate is made, and in the last round on the architectures that evolve on what
    it predicts.
    """

    kind = of = "surrogate"

    fuse: Fuse = unfused

    def __post_init__(self) -> None:
        super().__post_init__()
        self.uniform = self.initial[:0]  # draws so far

    def propose(self, generation: int) -> tuple[Population, dict[str, Any]]:
        """Rounds in place of generations, with `population` evaluations each."""
        drawn, population = "initial", self.initial
        if generation > 0 and generation == self.settings.generations - 1:
            drawn, population = "predicted", self._best_predicted()
        elif generation > 0:
            uniform = partial(self.space.uniform, rng=self.rng)
            drawn, population = "uniform", draw_valid(uniform, self.is_feasible, self.settings.population)
            self.uniform = torch.cat([self.uniform, population])
        return population, {"round": generation, "drawn": drawn}

    def predicted(self) -> Scores:
        """What a ridge surrogate to the uniform draws makes of all that is evaluated; without any the scores."""
        known = self.evaluated
        return self.surrogate()(known.population) if len(self.uniform) else self.fuse(known.population, known.scores)

    def surrogate(self) -> RidgeSurrogate:
        """Of the uniform draws; without any of all that is evaluated."""
        drawn = self.uniform if len(self.uniform) else self.evaluated.population
        return RidgeSurrogate(self.space, drawn, self.fuse(drawn, self.evaluated.lookup(drawn)))

    def _best_predicted(self) -> Population:
        """The P highest predicted scores that an evolution finds."""
        longer = replace(self.settings, generations=PREDICTED_GENERATIONS)
        first = self.evaluated.population
        evolution = Evolution(self.space, longer, self.surrogate(), self.is_feasible, self.rng, first)
        for _ in evolution.run():
            pass
        return evolution.evaluated.best(self.settings.population)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "uniform": self.uniform}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.uniform = state["uniform"]
