"""One categorical distribution per slot: fitted to the elite (the cross-entropy method, Rubinstein 1999), or given.

The first is the baseline that the VAE must beat: Algorithm 1 with the simplest model. The second is that of Sec. 4.3.
"""

from typing import Any

from jaxtyping import Float
from torch import Generator, Tensor

from vaenas.samplers.sampler import Sampler, UpdateStats, elite, marginals
from vaenas.samplers.settings import CategoricalSettings
from vaenas.spaces.space import Population, Scores, SearchSpace


class CategoricalSampler:
    """p(α) = Π_j p_j(o_j), uniform before the first update."""

    def __init__(self, space: SearchSpace, settings: CategoricalSettings | None = None) -> None:
        self.space, self.settings = space, settings or CategoricalSettings()
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
        return UpdateStats.of(self, rng)

    def state_dict(self) -> dict[str, Any]:
        return {"probabilities": self.probabilities.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.probabilities = state["probabilities"]


class MultinomialSampler(Sampler):
    """p(α) = Π_j softmax(w_j)[o_j], of the architecture weights as they are then (ProxylessNAS, Cai et al. 2018).

    Args:
        weights: w, (s, k); whoever holds the tensor trains it in place and saves it.
    """

    def __init__(self, space: SearchSpace, weights: Float[Tensor, "s k"]) -> None:
        self.space, self.weights = space, weights

    def sample(self, n: int, rng: Generator) -> Population:
        """(n, s)"""
        return self.space.draw(self.weights.detach().cpu().expand(n, -1, -1), rng)
