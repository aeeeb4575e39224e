"""Draws from softmax(w), the distribution of ProxylessNAS (Cai et al. 2018): the baseline of Sec. 4.3."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from vaenas.spaces.space import Population, SearchSpace


class MultinomialSampler:
    """p(α) = Π_j softmax(w_j)[o_j], of the architecture weights as they are at that moment.

    Args:
        space: whose slots the weights are of.
        weights: w, (s, k); whoever holds the tensor trains it in place.
    """

    def __init__(self, space: SearchSpace, weights: Float[Tensor, "s k"]) -> None:
        self.space, self.weights = space, weights

    def sample(self, n: int, rng: Generator) -> Population:
        """(n, s)"""
        return self.space.draw(self.weights.detach().cpu().expand(n, -1, -1), rng)

    def state_dict(self) -> dict[str, Any]:
        return {}  # the weights belong to the search

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def entropy(weights: Float[Tensor, "s k"]) -> Float[Tensor, "s"]:
    """Of softmax(w) in each slot, in nats; -inf weights count as operations that are not there."""
    return torch.special.entr(weights.softmax(-1)).sum(-1)
