"""What a sampler is, and what is logged of a learned one."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor

from vaenas.spaces.space import Population, Scores, SearchSpace

DRAWS_DESCRIBED = 1000


@runtime_checkable
class Sampler(Protocol):
    """Proposes populations. All that changes over time is in `state_dict`, so that a resumed run goes on in step."""

    space: SearchSpace

    def sample(self, n: int, rng: Generator) -> Population: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@runtime_checkable
class LearnedSampler(Sampler, Protocol):
    """A sampler that Algorithm 1 trains; `update` goes on from what it knew and never restarts."""

    keep_ratio: float  # K: the share of a population that it learns from

    def update(self, population: Population, scores: Scores, rng: Generator) -> "UpdateStats": ...


@dataclass(frozen=True)
class UpdateStats:
    """What one update did; the last four are measured on 1000 fresh draws.

    The first four are of the VAE and None for a sampler without latent variables.
    """

    loss: float | None  # nats per architecture, mean over the update's iterations
    kl: float | None  # nats, D_KL(q(z|α) || N(0, I)), mean over the elite
    active_units: int | None  # latent dimensions whose posterior mean varies by > 0.01 (Burda et al. 2016)
    reconstruction: float | None  # in [0, 1]: share of slots that decoding the posterior mean gets right
    entropy: float  # nats per slot: entropy of the draws' marginals, mean over slots
    distinct: float  # in (0, 1]: share of different architectures among the draws
    repeated: float  # in [0, 1]: probability that two draws agree in a slot, mean over slots; 1 / k if uniform
    probabilities: list[list[float]]  # (s, k): marginals of the draws


def elite(population: Population, scores: Scores, keep_ratio: float) -> Int64[Tensor, "_ s"]:
    """Algorithm 1, lines 1-2: the rows ranked in the top K, K = `keep_ratio` in (0, 1]; at least one row."""
    keep = max(1, round(keep_ratio * len(scores)))
    return population[scores.argsort(descending=True, stable=True)[:keep]]


def marginals(space: SearchSpace, population: Population) -> Float[Tensor, "s k"]:
    """How often each operation stands in each slot; rows sum to 1."""
    return torch.nn.functional.one_hot(population, space.max_choices).float().mean(0)


def describe(sampler: Sampler, rng: Generator) -> dict[str, Any]:
    """The entries of `UpdateStats` that any sampler has."""
    draws = sampler.sample(DRAWS_DESCRIBED, rng)
    p = marginals(sampler.space, draws)
    return {
        "entropy": float(torch.special.entr(p).sum(-1).mean()),
        "distinct": len(torch.unique(draws, dim=0)) / len(draws),
        "repeated": float(p.square().sum(-1).mean()),
        "probabilities": p.tolist(),
    }
