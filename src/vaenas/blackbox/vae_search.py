"""Search by ask and tell, every label counted: the paper's sampler, and a predictor on top of it."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Int64
from torch import Generator, Tensor

from vaenas.blackbox.baselines import RandomSearch
from vaenas.blackbox.predictor import Features, GaussianProcess
from vaenas.samplers.mixture import Mixture
from vaenas.samplers.sampler import LearnedSampler
from vaenas.samplers.uniform import UniformSampler
from vaenas.samplers.vae import PAPER, RECOMMENDED, VAESampler, VAESettings
from vaenas.spaces.space import ConstraintTooTight, IsFeasible, Population, SearchSpace, first_of_equals

MIN_DRAWS, UNIFORM_DRAWS = 250, 4096  # at a time, at least: from Γ, and where Γ finds too little
MAX_ROUNDS = 200  # of draws before it gives up finding new architectures that are feasible
CHOICE_ROUNDS, CHOICE_PER_LABEL = 5, 20  # where few draws are feasible, so many rounds for so many candidates per label
THOMPSON_CANDIDATES = 300  # with the highest upper bounds, among which Thompson sampling decides
NEIGHBOURHOODS = 5  # best architectures whose neighbours are candidates

SMALL = {"hidden": 48, "latent": 8, "iterations": 15}  # enough for hundreds of labels; it learns in every round
SMALL_VAE, SMALL_PAPER_VAE = replace(RECOMMENDED, **SMALL), replace(PAPER, **SMALL)


@dataclass(frozen=True)
class BlackBoxSettings:
    """How `VAESearch` spends labels; docs/explanation/few-labels.md has the ablation."""

    initial: int = 5  # uniform architectures before the first update
    epsilon: float = 0.5  # share of the VAE in the proposals (eq. 5), in [0, 1]
    vae: VAESettings = SMALL_VAE
    predictor: bool = True  # choose among the proposals by predicted accuracy; False: the paper's sampler alone
    proposals: int = 2000  # draws from Γ that the predictor scores for one question
    latent: bool = True  # the predictor sees the encoder's μ(α) beside the space's features
    neighbours: bool = True  # the best architectures' neighbours are candidates, too
    repeats: bool = False  # an architecture may be asked for again: for labels with noise


ALONE = BlackBoxSettings(epsilon=0.9, predictor=False)
PAPER_ALONE = replace(ALONE, vae=SMALL_PAPER_VAE)


class VAESearch(RandomSearch):
    """Algorithm 1 in rounds: update the VAE with all labels, draw from Γ (eq. 5), label.

    With a predictor, thousands of draws are scored before a label is spent: a Gaussian process on the space's features
    and the encoder's latent code picks by Thompson sampling.

    Args:
        rng: the only source of chance.
        sampler: another model in the VAE's place, for comparison; its predictor sees the space's features only.
    """

    def __init__(
        self,
        space: SearchSpace,
        rng: Generator,
        settings: BlackBoxSettings | None = None,
        sampler: LearnedSampler | None = None,
    ) -> None:
        self.settings = settings or BlackBoxSettings()
        super().__init__(space, rng, self.settings.repeats)
        self.sampler = sampler or VAESampler(space, rng, self.settings.vae)
        self.mixture = Mixture(UniformSampler(space), self.sampler)
        self._predictor: GaussianProcess | None = None
        self._learnt = 0  # labels that the models have seen

    def ask(self, n: int, is_feasible: IsFeasible | None = None) -> Population:
        """(n, s): n different architectures, new ones unless `repeats`, that keep `is_feasible`.

        With `repeats` fewer than n where the space has no more.

        Raises:
            ConstraintTooTight: so many are not found.
        """
        n = min(n, self.space.size) if self.repeats else n
        predictor = self._learn()
        candidates = self._collect(n, is_feasible)
        if predictor is None:
            return candidates[:n]
        features, keys = self._features(candidates), self.space.keys(candidates)
        mean, deviation, _ = predictor.posterior(features, keys)
        best = (mean + 2 * deviation).argsort(descending=True, stable=True)[: max(THOMPSON_CANDIDATES, n)]
        return candidates[best[predictor.thompson([f[best] for f in features], keys[best], n, self.rng)]]

    def best(self) -> Population:
        """The labelled architecture (1, s) with the highest predicted mean; by its labels alone without a predictor."""
        predictor = self._learn() if self.settings.predictor else None
        if predictor is None:
            return super().best()
        population, _ = self.means()
        return population[predictor.mean(self._features(population), self.space.keys(population)).argmax()][None]

    def _learn(self) -> GaussianProcess | None:
        """Algorithm 1 on all labels, once there are enough, and the predictor, if there is one."""
        if self._learnt < len(self.scores) >= max(2, self.settings.initial):
            self.sampler.update(*self.means(), self.rng)
            if self.settings.predictor:
                features = self._features(self.population)
                self._predictor = self._predictor or GaussianProcess(len(features))
                self._predictor.fit(features, self.keys, self.scores)
            self._learnt = len(self.scores)
        return self._predictor

    def _features(self, population: Population) -> Features:
        features = self.space.features(population)
        if self.settings.latent and isinstance(self.sampler, VAESampler):
            features = [*features, self.sampler.latent(population)]
        return features

    def _collect(self, n: int, is_feasible: IsFeasible | None) -> Int64[Tensor, "_ s"]:
        """Different candidates, at least n: draws from Γ, and for a predictor neighbours of the best, too."""
        epsilon = self.settings.epsilon if self._learnt else 0.0
        proposals = self.settings.proposals if self._predictor else n
        candidates, seen = self.population[:0], self.keys[:0]
        tried, size = 0, max(proposals, MIN_DRAWS)
        for attempt in range(MAX_ROUNDS):
            if attempt < MAX_ROUNDS // 4:
                drawn, _ = self.mixture.sample(torch.full((size,), epsilon), self.rng)
            else:  # a sampler that repeats itself: uniform draws find what is left
                drawn = self.space.uniform(max(size, UNIFORM_DRAWS), self.rng)
            if attempt == 0 and self._predictor and epsilon:
                population, means = self.means()
                best = population[means.argsort(descending=True, stable=True)]
                near = map(self.space.neighbours, best[: NEIGHBOURHOODS if self.settings.neighbours else 0])
                drawn = torch.cat([drawn, *near, *([best] if self.repeats else [])])
            tried += len(drawn)
            drawn = drawn[self._is_allowed(drawn, is_feasible)]
            keys = self.space.keys(drawn)
            new = first_of_equals(keys)
            new = new[~torch.isin(keys[new], seen)]
            candidates, seen = torch.cat([candidates, drawn[new]]), torch.cat([seen, keys[new]])
            patient = is_feasible is not None and attempt < CHOICE_ROUNDS
            if len(candidates) >= max(n, min(proposals, CHOICE_PER_LABEL * n) if patient else 0):
                return candidates
        raise ConstraintTooTight(
            f"of {tried} architectures drawn only {len(candidates)} are new and feasible; {n} are needed: "
            f"loosen the constraints, or stop: the space may be used up"
        )
