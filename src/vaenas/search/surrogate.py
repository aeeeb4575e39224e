"""What scores say of each part of an architecture: a ridge regression on the space's features, and line 9 by it."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from vaenas.samplers.mixture import Mixture
from vaenas.samplers.sampler import LearnedSampler, UpdateStats
from vaenas.samplers.uniform import UniformSampler
from vaenas.spaces.space import IsFeasible, Population, Scores, SearchSpace

PREDICTED = 1000  # draws that the sampler learns from by what a ridge surrogate says of them
PENALTIES = torch.logspace(-3, 3, 25, dtype=torch.float64)  # of which the best is taken


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


def predicted_scores(space: SearchSpace, population: Population, scores: Scores) -> Scores:
    """The scores of (n, s) without what a ridge surrogate to them does not explain, (n,)."""
    return RidgeSurrogate(space, population, scores)(population)


def learn_from_surrogate(
    sampler: LearnedSampler,
    population: Population,
    scores: Scores,
    rounds: int,
    rng: Generator,
    is_feasible: IsFeasible | None = None,
    constraints: str = "",
) -> UpdateStats:
    """Line 9 on what a ridge surrogate to the scores expects, of more architectures than have been scored.

    Algorithm 1 is called `rounds` times, each on the population and `PREDICTED` fresh draws of Γ, for which nothing is
    evaluated. Their ε is K: with a larger one a sampler whose draws are the best would keep ever fewer of them
    (docs/explanation/surrogate.md).
    """
    surrogate, gamma = (
        RidgeSurrogate(sampler.space, population, scores),
        Mixture(UniformSampler(sampler.space), sampler),
    )

    def update() -> UpdateStats:
        drawn, _ = gamma.sample(torch.full((PREDICTED,), sampler.keep_ratio), rng, is_feasible, constraints)
        drawn = torch.cat([population, drawn])
        return sampler.update(drawn, surrogate(drawn), rng)

    return [update() for _ in range(rounds)][-1]
