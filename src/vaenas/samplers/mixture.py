"""Γ(α) = (1 - ε) U(α) + ε p_θ(α|z) (eq. 5) and the schedule of ε."""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from vaenas.samplers.sampler import Sampler
from vaenas.spaces.space import IsFeasible, Population, draw_valid


class Mixture:
    """Eq. 5: each row comes from `learned` with probability ε and from `base` else."""

    def __init__(self, base: Sampler, learned: Sampler) -> None:
        self.base, self.learned = base, learned

    def sample(
        self, epsilon: Float[Tensor, "n"], rng: Generator, is_feasible: IsFeasible | None = None, constraints: str = ""
    ) -> tuple[Population, Bool[Tensor, "n"]]:
        """One row per entry of `epsilon` (in [0, 1]), and which rows are the learned sampler's.

        With `is_feasible` both parts are drawn until they keep it, so that the shares stay those of eq. 5.
        """
        from_learned = torch.rand(len(epsilon), generator=rng) < epsilon
        population = torch.empty(len(epsilon), self.base.space.slots, dtype=torch.int64)
        for sampler, rows in ((self.base, ~from_learned), (self.learned, from_learned)):
            propose, n = partial(sampler.sample, rng=rng), int(rows.sum())
            population[rows] = (
                draw_valid(propose, is_feasible, n, constraints=constraints) if is_feasible else propose(n)
            )
        return population, from_learned


def linear_epsilon(increment: float, limit: float = 1.0) -> Callable[[int], float]:
    """Algorithm 2, lines 1 and 11: ε = 0 at step 0, then + ε_inc each step.

    The paper lets ε grow without bound; a probability ends at `limit` <= 1.
    """

    def epsilon(step: int) -> float:
        return min(limit, increment * step)

    return epsilon
