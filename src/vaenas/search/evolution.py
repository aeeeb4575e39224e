"""`Search(G, A, S_seeds)` of Algorithm 2, line 15: evolution after Guo et al. 2019, Algorithm 1.

Evolution finds what the supernet errs about most: of many scores the highest are those that noise and the supernet's
own interactions raise. With `EvolutionSettings.surrogate` the same number of evaluations is spent otherwise: after the
seeds on uniform draws, to which a ridge surrogate is made, and at last on the architectures that evolve on the fit.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Int64
from torch import Generator, Tensor

from vaenas.evaluation.supernet import Evaluate
from vaenas.records import Record
from vaenas.search.evaluated_set import EvaluatedSet, score
from vaenas.search.surrogate import RidgeSurrogate
from vaenas.spaces.space import IsFeasible, Population, SearchSpace, draw_valid, rows_in

ON_THE_FIT = 20  # generations that evolve on the fit, which costs nothing
ATTEMPTS = 20  # rounds of proposals for children that are new and keep the limits, before fresh draws fill up


@dataclass(frozen=True)
class EvolutionSettings:
    """Guo et al. 2019, Sec. 4: population 50, 20 generations, top 10, half mutation, half crossover."""

    population: int = 50  # P, also N_seeds
    generations: int = 20  # T, the seeds' included
    top_k: int = 10
    mutation_prob: float = 0.1  # for each slot
    surrogate: bool = False  # choose by a ridge surrogate to uniform draws; see above


@dataclass
class Evolution:
    """All that changes while evolution runs; a resumed run goes on from it."""

    seeds: Int64[Tensor, "_ s"]  # the first generation
    population: Int64[Tensor, "_ s"]  # of the generation under way
    evaluated: EvaluatedSet
    design: Int64[Tensor, "_ s"]  # with surrogate: the uniform draws so far
    generation: int = 0  # generations finished

    @classmethod
    def start(cls, seeds: Population) -> "Evolution":
        return cls(seeds, seeds, EvaluatedSet(seeds.shape[1]), seeds[:0])

    def fit(self, space: SearchSpace) -> RidgeSurrogate | None:
        """To the uniform draws; None without any."""
        return RidgeSurrogate(space, self.design, self.evaluated.lookup(self.design)) if len(self.design) else None

    def state_dict(self) -> dict[str, Any]:
        return {**vars(self), "evaluated": self.evaluated.state_dict()}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> "Evolution":
        return cls(**{**state, "evaluated": EvaluatedSet.from_state_dict(state["evaluated"])})


def evolve(
    state: Evolution,
    space: SearchSpace,
    settings: EvolutionSettings,
    evaluate: Evaluate,
    is_feasible: IsFeasible,
    rng: Generator,
) -> Iterator[Record]:
    """Runs `state` to its last generation. Every child keeps `is_feasible`; the seeds must keep it already."""
    while state.generation < settings.generations:
        for done, total in score(state.population, state.evaluated, evaluate):
            yield Record(
                "evaluation", {"of": "evolution", "generation": state.generation, "done": done, "total": total}
            )
        scores = state.evaluated.lookup(state.population)
        best = float(state.evaluated.scores.max())
        generation, state.generation = state.generation, state.generation + 1
        if state.generation < settings.generations:
            following = _next_of_design if settings.surrogate else next_generation
            state.population = following(state, space, settings, is_feasible, rng)
        yield Record(
            "generation",
            {"generation": generation, "best": best, "mean": float(scores.mean()), "scores": scores.tolist()},
        )


def next_generation(
    state: Evolution, space: SearchSpace, settings: EvolutionSettings, is_feasible: IsFeasible, rng: Generator
) -> Population:
    """P children of the k best so far: half by mutation, half by crossover, fresh draws where those give too few."""
    evaluated = state.evaluated
    parents, half = evaluated.best(settings.top_k), settings.population // 2

    def pick(n: int) -> Population:
        return parents[torch.randint(len(parents), (n,), generator=rng)]

    def mutants(n: int) -> Population:
        return space.mutate(pick(n), settings.mutation_prob, rng)

    def crossed(n: int) -> Population:
        return space.crossover(pick(n), pick(n), rng)

    def fresh(n: int) -> Population:
        return space.uniform(n, rng)

    children = parents[:0]
    for propose, size in ((mutants, half), (crossed, settings.population), (fresh, settings.population)):
        children = _with_new(children, propose, size, evaluated, space, is_feasible)
    # A space can be used up, or the limits leave little: then known architectures fill the generation.
    return torch.cat([children, parents.repeat(settings.population, 1)])[: settings.population]


def _next_of_design(
    state: Evolution, space: SearchSpace, settings: EvolutionSettings, is_feasible: IsFeasible, rng: Generator
) -> Population:
    """P uniform draws; in the last generation the P best by the fit to those before."""
    if state.generation < settings.generations - 1:
        drawn = draw_valid(lambda n: space.uniform(n, rng), is_feasible, settings.population)
        state.design = torch.cat([state.design, drawn])
        return drawn
    fit = state.fit(space) or RidgeSurrogate(space, state.evaluated.population, state.evaluated.scores)
    by_fit = Evolution.start(state.evaluated.population)
    free = replace(settings, generations=ON_THE_FIT, surrogate=False)
    for _ in evolve(by_fit, space, free, fit, is_feasible, rng):
        pass
    return by_fit.evaluated.best(settings.population)


def _with_new(
    children: Int64[Tensor, "_ s"],
    propose: Callable[[int], Population],
    size: int,
    evaluated: EvaluatedSet,
    space: SearchSpace,
    is_feasible: IsFeasible,
) -> Int64[Tensor, "_ s"]:
    """`children` and new, valid, accepted proposals, `size` in all where that many are found."""
    for _ in range(ATTEMPTS):
        if len(children) >= size:
            break
        proposals = propose(4 * size)
        proposals = proposals[space.is_valid(proposals) & is_feasible(proposals)]
        proposals = proposals[~rows_in(proposals, evaluated.population) & ~rows_in(proposals, children)]
        children = torch.cat([children, _first_of_equals(proposals)])[:size]
    return children


def _first_of_equals(population: Population) -> Int64[Tensor, "_ s"]:
    """Each row once, in the order of its first appearance."""
    same = (population[:, None, :] == population[None, :, :]).all(-1)
    return population[~same.tril(-1).any(-1)]
