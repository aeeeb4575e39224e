"""VAENAS - One-Shot: Algorithm 2 as printed. Comments give its lines."""

from collections.abc import Generator
from dataclasses import dataclass

import torch

from vaenas.records import Record
from vaenas.samplers.mixture import Mixture, linear_epsilon
from vaenas.samplers.sampler import Prefetched
from vaenas.samplers.uniform import UniformSampler
from vaenas.search.evaluated_set import score
from vaenas.search.evolution import Evolution
from vaenas.search.search import Found, Search
from vaenas.search.settings import EvolutionSettings
from vaenas.search.surrogate import SurrogateSearch
from vaenas.spaces.space import Population


@dataclass(kw_only=True)
class OneShot(Search):
    """Of Algorithm 2."""

    parts = ("trainer", "sampler", "final")

    evolution: EvolutionSettings  # N_seeds, and what line 15 spends

    def __post_init__(self) -> None:
        """Line 1: a sampler that does not learn takes the place of U, and ε stays 0."""
        self.gamma = Mixture(UniformSampler(self.space) if self.learned else self.sampler, self.sampler)
        limit, increment, steps = self.training.epsilon_limit, self.training.epsilon_inc, self.trainer.steps
        if self.learned is None or limit is None:
            limit = self.learned.keep_ratio if self.learned else 0.0
        self.epsilon = linear_epsilon(limit / steps if increment is None else increment, limit)

        def draw(steps: range, rng: torch.Generator) -> Population:
            return self.gamma.sample(torch.tensor([self.epsilon(step) for step in steps]), rng)[0]

        self.ahead = Prefetched(draw, self.space.slots, self.n_vae, steps)
        nothing = self.ahead.rows
        common = self.space, self.evolution, self.evaluate, self.is_feasible, self.rng, nothing
        self.final = SurrogateSearch(*common, self.fuse) if self.surrogate.kind == "ridge" else Evolution(*common)


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

    final = search.final
    if len(final.initial) == 0:
        # Without a learned sampler the initial population is uniform (Guo et al. 2019).
        final.initial = search.draw(sampler if search.learned else UniformSampler(space), n_seeds)  # lines 13, 14
    yield from final.run()  # line 15: Search(G, A, S_seeds)
    draws = (yield from search.compare(final.evaluated, final.initial)) if search.learned else None
    predicted = final.predicted()
    return Found(final.evaluated.population, final.evaluated.scores, predicted, int(predicted.argmax()), draws)
