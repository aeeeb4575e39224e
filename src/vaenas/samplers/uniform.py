"""Samplers that do not learn: uniform (Guo et al. 2019) and strictly fair (FairNAS, Chu et al. 2019)."""

import math
from typing import Any

import torch
from torch import Generator

from vaenas.samplers.sampler import Sampler
from vaenas.spaces.space import Population, SearchSpace


class UniformSampler(Sampler):
    """U(α): every architecture equally likely."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space

    def sample(self, n: int, rng: Generator) -> Population:
        """(n, s)"""
        return self.space.uniform(n, rng)


class FairSampler:
    """Strict fairness: in each round every operation of a slot is used equally often, in random order.

    A round is as many architectures as the least common multiple of the slots' numbers of operations. Only for spaces
    where every combination is valid. FairNAS also sums the gradients of a round before it steps; here, as in
    Algorithm 2, every architecture is a step of its own.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space, self.round = space, math.lcm(*space.choices)
        self._rest: Population = torch.empty(0, space.slots, dtype=torch.int64)  # of a round that was begun

    def sample(self, n: int, rng: Generator) -> Population:
        """(n, s): the rest of the last round, then whole new rounds; what is left over waits for the next call."""
        rounds = -(-(n - len(self._rest)) // self.round)
        if rounds > 0:
            # of each slot random permutations of its operations, one after the other
            keys = [torch.rand(rounds * self.round // k, k, generator=rng) for k in self.space.choices]
            fresh = torch.stack([of_slot.argsort(-1).flatten() for of_slot in keys], dim=-1)
            self._rest = torch.cat([self._rest, fresh])
        drawn, self._rest = self._rest[:n], self._rest[n:]
        return drawn

    def state_dict(self) -> dict[str, Any]:
        return {"rest": self._rest.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._rest = state["rest"]
