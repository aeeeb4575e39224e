"""VAENAS - One-Shot: Algorithm 2 as printed. Comments give its lines."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import torch

from vaenas.records import Record
from vaenas.samplers.mixture import Mixture, linear_epsilon
from vaenas.samplers.sampler import Prefetched
from vaenas.samplers.uniform import UniformSampler
from vaenas.search.evaluated_set import score
from vaenas.search.evolution import Evolution
from vaenas.search.search import Found, Search
from vaenas.search.settings import EvolutionSettings
from vaenas.search.surrogate_search import SurrogateSearch
from vaenas.spaces.space import Population


@dataclass(kw_only=True)
class OneShot(Search):
    """Of Algorithm 2.

    Args:
        evolution: N_seeds, and what line 15 spends.
        final: line 15 under way.
    """

    evolution: EvolutionSettings
    final: Evolution | None = None

    def __post_init__(self) -> None:
        """Line 1: a sampler that does not learn takes the place of U, and ε stays 0."""
        self.gamma = Mixture(UniformSampler(self.space) if self.learned else self.sampler, self.sampler)
        self.epsilon = self._epsilon()
        self.final_type = SurrogateSearch if self.surrogate.kind == "ridge" else Evolution

        def draw(steps: range, rng: torch.Generator) -> Population:
            return self.gamma.sample(torch.tensor([self.epsilon(step) for step in steps]), rng)[0]

        self.ahead = Prefetched(draw, self.space.slots, self.n_vae, self.trainer.steps)

    def _epsilon(self) -> Callable[[int], float]:
        """By steps done: reaches its limit, K where none is given, at the end."""
        if self.learned is None:
            return lambda step: 0.0
        limit, increment = self.training.epsilon_limit, self.training.epsilon_inc
        limit = self.learned.keep_ratio if limit is None else limit
        return linear_epsilon(limit / self.trainer.steps if increment is None else increment, limit)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "final": self.final and self.final.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.final = state["final"] and self.final_type.from_state_dict(state["final"])


def run(search: OneShot) -> Generator[Record, None, Found]:
    """Algorithm 2, from the last boundary on that `search` was saved at."""
    space, sampler, rng, n_s, n_seeds = (
        search.space, search.sampler, search.rng, search.training.ranking_size, search.evolution.population
    )  # fmt: skip
    gamma, epsilon = search.gamma, search.epsilon  # line 1: Γ = (1 - ε) U + ε p_θ
    for step in range(search.step, search.trainer.steps):  # line 2
        architecture = search.ahead.at(step, rng)  # line 3: α ~ Γ
        trained = search.trainer.step(architecture, epsilon=epsilon(step))  # line 4
        if search.ranks(step):  # line 5
            shares = torch.full((n_s,), epsilon(step))
            population, learned = gamma.sample(shares, rng, search.is_feasible, search.constraints)  # line 6
            scores = yield from score(population, search.evaluate, "ranking")  # lines 7, 8: S
            yield search.learn(population, learned, scores, epsilon(step))  # line 9
        search.step = step + 1  # lines 10 to 12
        yield trained

    if search.final is None:
        # Without a learned sampler the initial population is uniform (Guo et al. 2019).
        initial = search.draw(sampler if search.learned else UniformSampler(space), n_seeds)  # lines 13, 14: S_seeds
        search.final = search.final_type.start(initial)
    final = search.final
    yield from final.run(space, search.evolution, search.evaluate, search.is_feasible, rng)  # line 15
    draws = (yield from search.compare(final.evaluated, final.initial)) if search.learned else None
    predicted = final.predicted(space)
    return Found(final.evaluated.population, final.evaluated.scores, predicted, int(predicted.argmax()), draws)
