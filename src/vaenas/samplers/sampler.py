"""What a sampler is, architectures drawn ahead, and what is logged of a learned one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor

from vaenas.spaces.space import Population, Scores, SearchSpace

DRAWS_DESCRIBED = 1000
BLOCK = 256  # architectures drawn ahead at most


@runtime_checkable
class Sampler(Protocol):
    """Proposes populations. All that changes over time is in `state_dict`, so that a resumed run goes on in step."""

    space: SearchSpace

    def sample(self, n: int, rng: Generator) -> Population: ...

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


@runtime_checkable
class LearnedSampler(Sampler, Protocol):
    """A sampler that Algorithm 1 trains; `update` goes on from what it knew and never restarts."""

    keep_ratio: float  # K: the share of a population that it learns from

    def update(self, population: Population, scores: Scores, rng: Generator) -> "UpdateStats": ...


class Prefetched:
    """Gives each step of a search its architecture, drawn a block of steps at once: one by one is as slow as a layer.

    Args:
        draw: one architecture for each of some steps, (n, s).
        interval: steps after which `draw` has learned, where a block ends.
        steps: of the whole search.
    """

    def __init__(self, draw: Callable[[range, Generator], Population], slots: int, interval: int, steps: int) -> None:
        self._draw, self._interval, self._steps = draw, interval, steps
        self.rows: Population = torch.empty(0, slots, dtype=torch.int64)  # of the next steps: to be saved

    def at(self, step: int, rng: Generator) -> Int64[Tensor, "s"]:
        """The architecture of `step`; to be called once for each step in turn."""
        if len(self.rows) == 0:
            end = min(step - step % self._interval + self._interval, step + BLOCK, self._steps)
            self.rows = self._draw(range(step, end), rng)
        architecture, self.rows = self.rows[0], self.rows[1:]
        return architecture


@dataclass(frozen=True)
class UpdateStats:
    """What one update did. The first four are measured on 1000 fresh draws, the others only a VAE has."""

    entropy: float  # nats per slot: entropy of the draws' marginals, mean over slots
    distinct: float  # in (0, 1]: share of different architectures among the draws
    repeated: float  # in [0, 1]: probability that two draws agree in a slot, mean over slots; 1 / k if uniform
    probabilities: list[list[float]]  # (s, k): marginals of the draws
    loss: float | None = None  # nats per architecture, mean over the update's iterations
    kl: float | None = None  # nats, D_KL(q(z|α) || N(0, I)), mean over the elite
    active_units: int | None = None  # latent dimensions whose posterior mean varies by > 0.01 (Burda et al. 2016)
    reconstruction: float | None = None  # in [0, 1]: share of slots that decoding the posterior mean gets right

    @classmethod
    def of(cls, sampler: Sampler, rng: Generator, **of_vae: Any) -> "UpdateStats":
        """Of a sampler as it is now."""
        draws = sampler.sample(DRAWS_DESCRIBED, rng)
        p = marginals(sampler.space, draws)
        return cls(
            float(torch.special.entr(p).sum(-1).mean()),
            len(torch.unique(draws, dim=0)) / len(draws),
            float(p.square().sum(-1).mean()),
            p.tolist(),
            **of_vae,
        )


def elite(population: Population, scores: Scores, keep_ratio: float) -> Int64[Tensor, "_ s"]:
    """Algorithm 1, lines 1-2: the rows ranked in the top K, K = `keep_ratio` in (0, 1]; at least one row."""
    keep = max(1, round(keep_ratio * len(scores)))
    return population[scores.argsort(descending=True, stable=True)[:keep]]


def marginals(space: SearchSpace, population: Population) -> Float[Tensor, "s k"]:
    """How often each operation stands in each slot; rows sum to 1."""
    return torch.nn.functional.one_hot(population, space.max_choices).float().mean(0)
