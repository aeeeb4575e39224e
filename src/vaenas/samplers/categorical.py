"""The cross-entropy method (Rubinstein 1999): one categorical distribution per slot, fitted to the elite.

The baseline that the VAE must beat: Algorithm 1 with the simplest model there is.
"""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field
from torch import Generator

from vaenas.samplers.sampler import UpdateStats, describe, elite, marginals
from vaenas.spaces.space import Population, Scores, SearchSpace


@dataclass(frozen=True)
class CategoricalSettings:
    """Settings of the cross-entropy method."""

    keep_ratio: Annotated[float, Field(gt=0, le=1, description="K: share of the ranked that it learns from")] = 0.5
    smoothing: Annotated[
        float, Field(gt=0, le=1, description="weight of the new frequencies against the old probabilities")
    ] = 0.7
    floor: Annotated[
        float, Field(ge=0, lt=1, description="share of the uniform distribution, so that no operation is lost for good")
    ] = 0.02


class CategoricalSampler:
    """p(α) = Π_j p_j(o_j), uniform before the first update."""

    def __init__(self, space: SearchSpace, settings: CategoricalSettings | None = None) -> None:
        self.space = space
        self.settings = settings or CategoricalSettings()
        self.keep_ratio = self.settings.keep_ratio
        self._uniform = space.on_offer.float() / space.on_offer.sum(-1, keepdim=True)
        self.probabilities = self._uniform.clone()  # (s, k)

    def sample(self, n: int, rng: Generator) -> Population:
        """(n, s)"""
        return self.space.draw(self.probabilities.log().expand(n, -1, -1), rng)

    def update(self, population: Population, scores: Scores, rng: Generator) -> UpdateStats:
        """Moves the probabilities towards the frequencies among the top K of (n, s), (n,)."""
        s = self.settings
        frequencies = marginals(self.space, elite(population, scores, s.keep_ratio))
        frequencies = (1 - s.floor) * frequencies + s.floor * self._uniform
        self.probabilities = (1 - s.smoothing) * self.probabilities + s.smoothing * frequencies
        described = describe(self, rng)
        return UpdateStats(loss=None, kl=None, active_units=None, reconstruction=None, **described)

    def state_dict(self) -> dict[str, Any]:
        return {"probabilities": self.probabilities.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.probabilities = state["probabilities"]
