"""Search by ask and tell, every label counted: the paper's sampler, and a predictor on top of it."""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int64
from torch import Generator, Tensor

from vaenas.blackbox.predictor import Features, GaussianProcess
from vaenas.samplers.mixture import Mixture
from vaenas.samplers.sampler import LearnedSampler
from vaenas.samplers.uniform import UniformSampler
from vaenas.samplers.vae import PAPER, RECOMMENDED, VAESampler, VAESettings
from vaenas.spaces.space import ConstraintTooTight, IsFeasible, Population, Scores, SearchSpace, first_of_equals

MIN_DRAWS, UNIFORM_DRAWS = 250, 4096  # at a time, at least: from Γ, and where Γ finds too little
MAX_ROUNDS = 200  # of draws before it gives up finding new architectures that are feasible
CHOICE_ROUNDS, CHOICE_PER_LABEL = 5, 20  # where few draws are feasible, so many rounds for so many candidates per label
THOMPSON_CANDIDATES = 300  # with the highest upper bounds, among which Thompson sampling decides
NEIGHBOURHOODS = 5  # best architectures whose neighbours are candidates

SMALL = {"hidden": 48, "latent": 8, "iterations": 15}  # enough for hundreds of labels; it learns in every round
SMALL_VAE, SMALL_PAPER_VAE = replace(RECOMMENDED, **SMALL), replace(PAPER, **SMALL)


@runtime_checkable
class AskTell(Protocol):
    """A search in rounds: `ask` for architectures, label them, `tell`."""

    def ask(self, n: int, is_feasible: IsFeasible | None = None) -> Population: ...

    def tell(self, population: Population, scores: Scores) -> None: ...

    def best(self) -> Population: ...


class History:
    """Every label that was told, in order; one architecture may have several."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.population: Population = torch.empty(0, space.slots, dtype=torch.int64)
        self.scores: Scores = torch.empty(0)
        self.keys = torch.empty(0, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.scores)

    def add(self, population: Population, scores: Scores) -> None:
        """(n, s) and (n,) finite numbers."""
        self.population = torch.cat([self.population, population])
        self.scores = torch.cat([self.scores, scores.float()])
        self.keys = torch.cat([self.keys, self.space.keys(population)])

    def means(self) -> tuple[Population, Scores]:
        """Each architecture once, in the order of its first label, and the mean of its labels."""
        _, inverse, counts = self.keys.unique(return_inverse=True, return_counts=True)
        means = torch.zeros(len(counts)).index_add(0, inverse, self.scores) / counts
        first = first_of_equals(self.keys)
        return self.population[first], means[inverse[first]]

    def best(self) -> Population:
        """The architecture (1, s) with the highest mean of its labels, the earlier of equals."""
        population, means = self.means()
        return population[means.argmax()][None]


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


class VAESearch:
    """Algorithm 1 in rounds: update the VAE with all labels, draw from Γ (eq. 5), label.

    With a predictor, thousands of draws are scored before a label is spent: a Gaussian process on the space's features
    and the encoder's latent code picks by Thompson sampling.

    Args:
        space: where to search.
        rng: the only source of chance.
        settings: see there.
        sampler: another model in the VAE's place, for comparison; its predictor sees the space's features only.
    """

    def __init__(
        self,
        space: SearchSpace,
        rng: Generator,
        settings: BlackBoxSettings | None = None,
        sampler: LearnedSampler | None = None,
    ) -> None:
        self.space, self.rng, self.settings = space, rng, settings or BlackBoxSettings()
        self.history = History(space)
        self.sampler = sampler or VAESampler(space, rng, self.settings.vae)
        self.mixture = Mixture(UniformSampler(space), self.sampler)
        self._predictor: GaussianProcess | None = None
        self._learnt = 0  # labels that the models have seen

    def tell(self, population: Population, scores: Scores) -> None:
        """Labels of any architectures of the space: (n, s), and (n,) finite numbers, higher is better."""
        self.history.add(population, scores)

    def ask(self, n: int, is_feasible: IsFeasible | None = None) -> Population:
        """(n, s): n different architectures, new ones unless `repeats`, that keep `is_feasible`.

        With `repeats` fewer than n where the space has no more.

        Raises:
            ConstraintTooTight: so many are not found.
        """
        n = min(n, self.space.size) if self.settings.repeats else n
        predictor = self._learn()
        epsilon = self.settings.epsilon if self._learnt else 0.0
        if predictor is None:
            return self._collect(n, n, epsilon, is_feasible)[:n]
        more = self._known_candidates() if epsilon else None
        candidates = self._collect(n, self.settings.proposals, epsilon, is_feasible, more)
        features, keys = self._features(candidates), self.space.keys(candidates)
        posterior = predictor.posterior(features, keys)
        upper = posterior.mean + 2 * predictor.deviation(posterior)
        best = upper.argsort(descending=True, stable=True)[: max(THOMPSON_CANDIDATES, n)]
        return candidates[best[predictor.thompson([f[best] for f in features], keys[best], n, self.rng)]]

    def best(self) -> Population:
        """The labelled architecture (1, s) with the highest predicted mean; by its labels alone without a predictor."""
        predictor = self._learn() if self.settings.predictor else None
        if predictor is None:
            return self.history.best()
        population, _ = self.history.means()
        mean = predictor.posterior(self._features(population), self.space.keys(population)).mean
        return population[mean.argmax()][None]

    def _learn(self) -> GaussianProcess | None:
        """Algorithm 1 on all labels, once there are enough, and the predictor, if there is one."""
        if self._learnt < len(self.history) >= max(2, self.settings.initial):
            self.sampler.update(*self.history.means(), self.rng)
            if self.settings.predictor:
                features = self._features(self.history.population)
                self._predictor = self._predictor or GaussianProcess(len(features))
                self._predictor.fit(features, self.history.keys, self.history.scores)
            self._learnt = len(self.history)
        return self._predictor

    def _features(self, population: Population) -> Features:
        features = self.space.features(population)
        if self.settings.latent and isinstance(self.sampler, VAESampler):
            features = [*features, self.sampler.latent(population)]
        return features

    def _collect(
        self, n: int, proposals: int, epsilon: float, is_feasible: IsFeasible | None, more: Population | None = None
    ) -> Int64[Tensor, "_ s"]:
        """Different candidates of `proposals` draws and `more`; of further draws where fewer than n are feasible."""
        known = self.history.keys
        candidates, keys = self.history.population[:0], known[:0]
        tried, size = 0, max(proposals, MIN_DRAWS)
        for attempt in range(MAX_ROUNDS):
            if attempt < MAX_ROUNDS // 4:
                drawn, _ = self.mixture.sample(torch.full((size,), epsilon), self.rng)
            else:  # a sampler that repeats itself: uniform draws find what is left
                drawn = self.space.uniform(max(size, UNIFORM_DRAWS), self.rng)
            if attempt == 0 and more is not None:
                drawn = torch.cat([drawn, more])
            tried += len(drawn)
            if is_feasible is not None:
                drawn = drawn[is_feasible(drawn)]
            drawn_keys = self.space.keys(drawn)
            fresh = ~torch.isin(drawn_keys, keys if self.settings.repeats else torch.cat([keys, known]))
            drawn, drawn_keys = drawn[fresh], drawn_keys[fresh]
            first = first_of_equals(drawn_keys)
            candidates, keys = torch.cat([candidates, drawn[first]]), torch.cat([keys, drawn_keys[first]])
            patient = is_feasible is not None and attempt < CHOICE_ROUNDS
            if len(candidates) >= max(n, min(proposals, CHOICE_PER_LABEL * n) if patient else 0):
                return candidates
        raise ConstraintTooTight(
            f"of {tried} architectures drawn only {len(candidates)} are new and feasible; {n} are needed: "
            f"loosen the constraints, or stop: the space may be used up"
        )

    def _known_candidates(self) -> Population:
        """Neighbours of the best so far, and with `repeats` those that have labels."""
        population, means = self.history.means()
        best = population[means.argsort(descending=True, stable=True)]
        near = [self.space.neighbours(row) for row in best[:NEIGHBOURHOODS]] if self.settings.neighbours else []
        return torch.cat([*near, best if self.settings.repeats else best[:0]])
