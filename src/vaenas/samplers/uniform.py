"""Samplers that do not learn: uniform (Guo et al. 2019) and strictly fair (FairNAS, Chu et al. 2019)."""

import math
from typing import Any

import torch
from torch import Generator

from vaenas.spaces.space import Population, SearchSpace


class UniformSampler:
    """U(α): every architecture equally likely."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space

    def sample(self, n: int, rng: Generator) -> Population:
        """(n, s)"""
        return self.space.uniform(n, rng)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class FairSampler:
    """Strict fairness: in each round every operation of a slot is used equally often, in random order.

    With k operations in every slot a round is k architectures and uses each operation once. With unequal
    numbers a round is their least common multiple. Only for spaces where every combination is valid.

    FairNAS also sums the gradients of a round before it steps; here, as in Algorithm 2, every architecture
    is a step of its own.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.round = math.lcm(*space.choices)
        self._rest: Population = torch.empty(0, space.slots, dtype=torch.int64)  # of a round that was begun

    def sample(self, n: int, rng: Generator) -> Population:
        """(n, s): the rest of the last round, then whole new rounds; what is left over waits for the next call."""
        rounds = -(-(n - len(self._rest)) // self.round)
        if rounds > 0:
            fresh = [self._one_slot(choices, rounds, rng) for choices in self.space.choices]
            self._rest = torch.cat([self._rest, torch.stack(fresh, dim=-1)])
        drawn, self._rest = self._rest[:n], self._rest[n:]
        return drawn

    def _one_slot(self, choices: int, rounds: int, rng: Generator) -> torch.Tensor:
        """(rounds * round,): random permutations of the slot's operations, one after the other."""
        keys = torch.rand(rounds * self.round // choices, choices, generator=rng)
        return keys.argsort(-1).flatten()

    def state_dict(self) -> dict[str, Any]:
        return {"rest": self._rest.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._rest = state["rest"]
