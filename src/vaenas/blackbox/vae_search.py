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
from vaenas.spaces.space import ConstraintTooTight, IsFeasible, Population, Scores, SearchSpace

BATCH = 250  # draws at a time, at least
ROUNDS = 200  # of proposals before it gives up finding new architectures that are accepted
EFFORT, CHOICE = 5, 20  # where few draws are accepted: so many rounds more for so many candidates per label
FAVOURITES = 300  # candidates with the highest upper bounds, among which Thompson sampling decides
NEIGHBOURHOODS = 5  # best architectures whose neighbours are candidates


# A few hundred labels need no larger a VAE, and it goes on learning every round.
SIZES = {"hidden": 48, "latent": 8, "iterations": 15}
SMALL = replace(RECOMMENDED, **SIZES)


@runtime_checkable
class AskTell(Protocol):
    """A search in rounds: `ask` for architectures, label them, `tell`."""

    def ask(self, n: int, is_feasible: IsFeasible | None = None) -> Population: ...

    def tell(self, population: Population, scores: Scores) -> None: ...


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
        first = torch.full((len(counts),), len(self)).scatter_reduce(0, inverse, torch.arange(len(self)), "amin")
        sums = torch.zeros(len(counts)).index_add(0, inverse, self.scores)
        order = first.argsort()
        return self.population[first[order]], (sums / counts)[order]

    def best(self) -> Population:
        """The architecture (1, s) with the highest mean of its labels, the earlier of equals."""
        population, means = self.means()
        return population[means.argmax()][None]


@dataclass(frozen=True)
class BlackBoxSettings:
    """How `VAESearch` spends labels; docs/explanation/few-labels.md has the ablation."""

    initial: int = 5  # uniform architectures before the first update
    epsilon: float = 0.5  # share of the VAE in the proposals (eq. 5), in [0, 1]
    vae: VAESettings = SMALL
    predictor: bool = True  # choose among the proposals by predicted accuracy; False: the paper's sampler alone
    proposals: int = 2000  # draws from Γ that the predictor scores for one question
    latent: bool = True  # the predictor sees the encoder's μ(α) beside the space's features
    neighbours: bool = True  # the best architectures' neighbours are candidates, too
    repeats: bool = False  # an architecture may be asked for again: for labels with noise


ALONE = BlackBoxSettings(epsilon=0.9, predictor=False)
PAPER_ALONE = replace(ALONE, vae=replace(PAPER, **SIZES))


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
        self._process: GaussianProcess | None = None
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
        if len(self.history) < max(2, self.settings.initial):
            return self._collect(n, n, 0.0, is_feasible)[:n]
        self._learn()
        if not self.settings.predictor:
            return self._collect(n, n, self.settings.epsilon, is_feasible)[:n]
        candidates = self._collect(n, self.settings.proposals, self.settings.epsilon, is_feasible)
        assert self._process is not None
        features, keys = self._features(candidates), self.space.keys(candidates)
        posterior = self._process.posterior(features, keys)
        upper = posterior.mean + 2 * self._process.deviation(posterior)
        favourites = upper.argsort(descending=True, stable=True)[: max(FAVOURITES, n)]
        chosen = self._process.thompson([f[favourites] for f in features], keys[favourites], n, self.rng)
        return candidates[favourites[chosen]]

    def best(self) -> Population:
        """The labelled architecture (1, s) with the highest predicted mean; by its labels alone without a predictor."""
        if not self.settings.predictor or len(self.history) < max(2, self.settings.initial):
            return self.history.best()
        self._learn()
        assert self._process is not None
        population, _ = self.history.means()
        mean = self._process.posterior(self._features(population), self.space.keys(population)).mean
        return population[mean.argmax()][None]

    def _learn(self) -> None:
        """Algorithm 1 on all labels, and the predictor; nothing where both have seen them."""
        if self._learnt == len(self.history):
            return
        self.sampler.update(*self.history.means(), self.rng)
        if self.settings.predictor:
            features = self._features(self.history.population)
            if self._process is None:
                self._process = GaussianProcess(len(features))
            self._process.fit(features, self.history.keys, self.history.scores)
        self._learnt = len(self.history)

    def _features(self, population: Population) -> Features:
        features = self.space.features(population)
        if self.settings.latent and isinstance(self.sampler, VAESampler):
            features = [*features, self.sampler.latent(population)]
        return features

    def _collect(self, n: int, proposals: int, epsilon: float, is_feasible: IsFeasible | None) -> Int64[Tensor, "_ s"]:
        """Different candidates: `proposals` draws; more where hardly any are accepted, until n are found."""
        known = self.history.keys
        candidates, keys = self.history.population[:0], known[:0]
        tried, batch = 0, max(proposals, BATCH)
        for attempt in range(ROUNDS):
            if attempt < ROUNDS // 4:
                drawn, _ = self.mixture.sample(torch.full((batch,), epsilon), self.rng)
            else:  # a sampler that repeats itself: uniform draws find what is left
                drawn = self.space.uniform(max(batch, 4096), self.rng)
            if attempt == 0 and self.settings.predictor and epsilon:
                drawn = torch.cat([drawn, *self._known_candidates()])
            tried += len(drawn)
            if is_feasible is not None:
                drawn = drawn[is_feasible(drawn)]
            drawn_keys = self.space.keys(drawn)
            fresh = ~torch.isin(drawn_keys, keys)
            if not self.settings.repeats:
                fresh &= ~torch.isin(drawn_keys, known)
            drawn, drawn_keys = drawn[fresh], drawn_keys[fresh]
            first = first_of_equals(drawn_keys)
            candidates, keys = torch.cat([candidates, drawn[first]]), torch.cat([keys, drawn_keys[first]])
            enough = n if attempt >= EFFORT or is_feasible is None else min(proposals, CHOICE * n)
            if len(candidates) >= max(n, enough):
                return candidates
        raise ConstraintTooTight(
            f"of {tried} architectures drawn only {len(candidates)} are new and accepted; {n} are needed: "
            f"loosen the limits, or stop: the space may be used up"
        )

    def _known_candidates(self) -> list[Population]:
        """Neighbours of the best so far, and with `repeats` those that have labels."""
        population, means = self.history.means()
        best = population[means.argsort(descending=True, stable=True)]
        near = [self.space.neighbours(row) for row in best[:NEIGHBOURHOODS]] if self.settings.neighbours else []
        return near + ([best] if self.settings.repeats else [])


def first_of_equals(keys: Int64[Tensor, "n"]) -> Int64[Tensor, "_"]:
    """Indices of each key's first appearance, ascending."""
    values, inverse = keys.unique(return_inverse=True)
    first = torch.full((len(values),), len(keys)).scatter_reduce(0, inverse, torch.arange(len(keys)), "amin")
    return first.sort().values
