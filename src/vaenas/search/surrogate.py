"""What scores say of each part of an architecture: a ridge regression on the space's features, and a search by it."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

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


@dataclass
class SurrogateSearch(Evolution):
    """Our own `Search(G, A, S_seeds)` of Algorithm 2, line 15: the architectures that a ridge surrogate puts first.

    Evolution finds what the supernet errs about most: of many scores the highest are those that noise and the
    supernet's own interactions raise. Here as many evaluations are spent otherwise: on the initial population, on
    uniform draws, from which a ridge surrogate is made, and in the last round on the architectures that evolve on what
    it predicts.
    """

    kind = of = "surrogate"

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
        surrogate = self.surrogate()
        return surrogate(self.evaluated.population) if surrogate else self.evaluated.scores

    def surrogate(self) -> RidgeSurrogate | None:
        """Of the uniform draws; None without any."""
        drawn = self.uniform
        return RidgeSurrogate(self.space, drawn, self.evaluated.lookup(drawn)) if len(drawn) else None

    def _best_predicted(self) -> Population:
        """The P highest predicted scores that an evolution finds."""
        known = self.evaluated
        surrogate = self.surrogate() or RidgeSurrogate(self.space, known.population, known.scores)
        longer = replace(self.settings, generations=PREDICTED_GENERATIONS)
        evolution = Evolution(self.space, longer, surrogate, self.is_feasible, self.rng, known.population)
        for _ in evolution.run():
            pass
        return evolution.evaluated.best(self.settings.population)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "uniform": self.uniform}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.uniform = state["uniform"]
