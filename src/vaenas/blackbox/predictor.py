"""A Gaussian process that predicts accuracies (Rasmussen & Williams 2006, Alg. 2.1), and a sampler guided by it."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Generator, Tensor

from vaenas.samplers.sampler import LearnedSampler, UpdateStats
from vaenas.spaces.space import Population, Scores

Features = list[Float[Tensor, "_ _"]]
"""Groups of features, one row per architecture in each, scaled so that different architectures are about 1 apart."""

JITTER = 1e-6
FIRST_STEPS, LATER_STEPS, LEARNING_RATE = 40, 12, 0.1  # of Adam on the hyperparameters, in the first `fit` and later
PRIOR_MEAN = {"weights": -1.0, "amplitude": 0.0, "own": -4.5, "noise": -4.5}  # of the hyperparameters' logarithms
PRIOR_STD = {"weights": 1.5, "amplitude": 1.0, "own": 1.5, "noise": 1.5}
GUIDED_LABELS = 1500  # that guide a sampler: the process's cost grows with their cube
THRESHOLD_DRAWS = 2000  # from which the threshold comes
CHUNK = 4000  # architectures predicted at once


class GaussianProcess:
    """Accuracy = a smooth function of the features + an architecture's own deviation + the noise of one training.

    Kernel: amplitude · exp(-Σ_g weight_g ‖φ_g - φ'_g‖²) + own · [same architecture]. Weights, amplitude, own and noise
    maximise the marginal likelihood times wide log-normal priors; each `fit` goes on from the last one's.

    Scores are warped: below the median their distance is compressed logarithmically, since the good ones are those to
    tell apart, then standardised; the process works in these units.
    """

    def __init__(self, groups: int) -> None:
        self.log = {
            name: torch.full((groups,) if name == "weights" else (), centre, dtype=torch.float64)
            for name, centre in PRIOR_MEAN.items()
        }
        self._fitted = False

    def fit(self, features: Features, ids: Int64[Tensor, "n"], scores: Scores, most: int = 300) -> None:
        """Learns from n >= 2 labels, any finite numbers; `ids` are equal exactly for the same architecture.

        The hyperparameters are fitted on at most `most` labels, evenly spaced; all count in the posterior.
        """
        self._features, self._ids = features, ids
        targets = warp(scores.double())
        rows = torch.linspace(0, len(ids) - 1, min(most, len(ids))).long()
        self._maximise([f[rows] for f in features], ids[rows], targets[rows])
        covariance = self._kernel(features, ids, features, ids)
        covariance.diagonal().add_(self.log["noise"].exp() + JITTER)
        self._root = torch.linalg.cholesky(covariance)
        self._weights = torch.cholesky_solve(targets[:, None], self._root)[:, 0]

    def mean(self, features: Features, ids: Int64[Tensor, "m"]) -> Float[Tensor, "m"]:
        """The posterior's mean alone, in warped units: cheap for many architectures."""
        return self._weights @ self._kernel(self._features, self._ids, features, ids)

    def posterior(
        self, features: Features, ids: Int64[Tensor, "m"]
    ) -> tuple[Float[Tensor, "m"], Float[Tensor, "m"], Float[Tensor, "n m"]]:
        """Mean, standard deviation, own deviation included, and the root of what n labels explain of the covariance."""
        cross = self._kernel(self._features, self._ids, features, ids)  # (n, m)
        explained = torch.linalg.solve_triangular(self._root, cross, upper=False)
        prior = self.log["amplitude"].exp() + self.log["own"].exp()
        deviation = (prior - explained.square().sum(0)).clamp(min=JITTER).sqrt()
        return self._weights @ cross, deviation, explained

    def thompson(self, features: Features, ids: Int64[Tensor, "m"], n: int, rng: Generator) -> Int64[Tensor, "_"]:
        """The best of each of n functions drawn from the posterior, n different ones of the m architectures."""
        mean, deviation, explained = self.posterior(features, ids)
        covariance = self._kernel(features, ids, features, ids) - explained.T @ explained
        covariance.diagonal().add_(JITTER)
        root, failed = torch.linalg.cholesky_ex(covariance)
        if failed:  # rounding: the variances alone still are what they should be
            root = torch.diag(deviation)
        functions = mean + torch.randn(n, len(ids), generator=rng, dtype=torch.float64) @ root.T
        chosen: list[int] = []
        for values in functions:
            values[chosen] = -torch.inf
            chosen.append(int(values.argmax()))
        return torch.tensor(chosen, dtype=torch.int64)

    def _kernel(
        self, a: Features, a_ids: Int64[Tensor, "n"], b: Features, b_ids: Int64[Tensor, "m"]
    ) -> Float[Tensor, "n m"]:
        # the weighted sum of squared distances is one squared distance of the weighted features
        roots = (0.5 * self.log["weights"]).exp()
        x, y = (torch.cat([f.double() * r for f, r in zip(part, roots, strict=True)], dim=1) for part in (a, b))
        smooth = self.log["amplitude"].exp() * (-torch.cdist(x, y).square()).exp()
        return smooth + self.log["own"].exp() * (a_ids[:, None] == b_ids)

    def _maximise(self, features: Features, ids: Int64[Tensor, "n"], targets: Float[Tensor, "n"]) -> None:
        distances = torch.stack([torch.cdist(f.double(), f.double()).square() for f in features])  # (g, n, n)
        same, eye = (ids[:, None] == ids).double(), torch.eye(len(ids), dtype=torch.float64)
        log = {name: value.clone().requires_grad_() for name, value in self.log.items()}
        optimizer = torch.optim.Adam(log.values(), lr=LEARNING_RATE)
        for _ in range(LATER_STEPS if self._fitted else FIRST_STEPS):
            smooth = log["amplitude"].exp() * (-torch.einsum("g,gnm->nm", log["weights"].exp(), distances)).exp()
            covariance = smooth + log["own"].exp() * same + (log["noise"].exp() + JITTER) * eye
            root = torch.linalg.cholesky(covariance)
            data = 0.5 * targets @ torch.cholesky_solve(targets[:, None], root)[:, 0]
            prior = sum((((log[name] - PRIOR_MEAN[name]) / PRIOR_STD[name]) ** 2).sum() for name in log)
            loss = data + root.diagonal().log().sum() + 0.5 * prior
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        self.log, self._fitted = {name: value.detach() for name, value in log.items()}, True


def warp(scores: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """Standardised scores, logarithmically compressed below their median (as HEBO and others warp objectives)."""
    median = scores.median()
    spread = (scores[scores >= median] - median).square().mean().sqrt() + 1e-12
    below = ((median - scores).clamp(min=0) / spread).log1p()
    warped = torch.where(scores < median, -below, (scores - median) / spread)
    return (warped - warped.mean()) / (warped.std() + 1e-12)


class Guided:
    """p(α | predicted accuracy >= τ): of a learned sampler's draws the best looking share, those that `is_feasible`.

    `update` fits a Gaussian process to (at most 1500 random ones of) the labels and hands its mean, not the labels, to
    Algorithm 1, so that noise does not decide who is in the top K. τ is the quantile that leaves `share` of the draws.
    """

    def __init__(self, sampler: LearnedSampler, share: float = 0.1) -> None:
        self.sampler, self.space, self.share = sampler, sampler.space, share
        self._predictor: GaussianProcess | None = None
        self.threshold = -torch.inf  # τ, in the predictor's units

    def update(self, population: Population, scores: Scores, rng: Generator) -> UpdateStats:
        """(n, s), (n,); n >= 2."""
        rows = torch.randperm(len(population), generator=rng)[:GUIDED_LABELS]
        features = self.space.features(population[rows])
        self._predictor = GaussianProcess(len(features))
        self._predictor.fit(features, self.space.keys(population[rows]), scores[rows])
        stats = self.sampler.update(population, self._predict(population), rng)
        self.threshold = float(self._predict(self.sampler.sample(THRESHOLD_DRAWS, rng)).quantile(1 - self.share))
        return stats

    def is_feasible(self, population: Population) -> Bool[Tensor, "n"]:
        """Which of the sampler's draws stay; all before the first update."""
        return self._predict(population) >= self.threshold

    def _predict(self, population: Population) -> Scores:
        if self._predictor is None:
            return torch.zeros(len(population))
        parts = [self._predictor.mean(self.space.features(p), self.space.keys(p)) for p in population.split(CHUNK)]
        return torch.cat(parts).float()
