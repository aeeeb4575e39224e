"""A sampler guided by a predictor: noise smoothed out of the labels, draws that look poor refused."""

import torch
from jaxtyping import Bool
from torch import Generator, Tensor

from vaenas.blackbox.predictor import GaussianProcess
from vaenas.samplers.sampler import LearnedSampler, UpdateStats
from vaenas.spaces.space import Population, Scores, draw_valid

MAX_LABELS = 1500  # that the Gaussian process takes: its cost grows with their cube
THRESHOLD_DRAWS = 2000  # from which the threshold comes
CHUNK = 4000  # architectures predicted at once


class GuidedSampler:
    """p(α | predicted accuracy >= τ): a learned sampler's draws, of which only the best looking share is kept.

    `update` fits a Gaussian process to (at most 1500 random ones of) the labels and hands its mean, not the labels, to
    Algorithm 1, so that noise does not decide who is in the top K. τ is the quantile that leaves `share` of the draws.

    Args:
        sampler: the one that is guided.
        share: of the sampler's draws that may stay, in (0, 1].
    """

    def __init__(self, sampler: LearnedSampler, share: float = 0.1) -> None:
        self.sampler, self.space, self.share, self.keep_ratio = sampler, sampler.space, share, sampler.keep_ratio
        self._predictor: GaussianProcess | None = None
        self.threshold = -torch.inf  # τ, in the predictor's units

    def update(self, population: Population, scores: Scores, rng: Generator) -> UpdateStats:
        """(n, s), (n,); n >= 2."""
        rows = torch.randperm(len(population), generator=rng)[:MAX_LABELS]
        features = self.space.features(population[rows])
        self._predictor = GaussianProcess(len(features))
        self._predictor.fit(features, self.space.keys(population[rows]), scores[rows])
        stats = self.sampler.update(population, self._predict(population), rng)
        self.threshold = float(self._predict(self.sampler.sample(THRESHOLD_DRAWS, rng)).quantile(1 - self.share))
        return stats

    def sample(self, n: int, rng: Generator) -> Population:
        """(n, s)"""
        return draw_valid(
            lambda m: self.sampler.sample(m, rng), self.is_feasible, n, constraints="the predictor's threshold"
        )

    def is_feasible(self, population: Population) -> Bool[Tensor, "n"]:
        """Which of the sampler's draws stay; all before the first update."""
        if self._predictor is None:
            return torch.ones(len(population), dtype=torch.bool)
        return self._predict(population) >= self.threshold

    def _predict(self, population: Population) -> Scores:
        assert self._predictor is not None
        parts = [self._predictor.mean(self.space.features(p), self.space.keys(p)) for p in population.split(CHUNK)]
        return torch.cat(parts).float() if parts else torch.zeros(0)
