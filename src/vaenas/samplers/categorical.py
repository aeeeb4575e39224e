"""The cross-entropy method (Rubinstein 1999): one categorical distribution per slot, fitted to the elite.

The baseline that the VAE must beat: Algorithm 1 with the simplest model there is.
"""

from typing import Any

from torch import Generator

from vaenas.samplers.sampler import UpdateStats, describe, elite, marginals
from vaenas.samplers.settings import CategoricalSettings
from vaenas.spaces.space import Population, Scores, SearchSpace


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
