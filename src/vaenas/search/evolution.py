"""`Search(G, A, S_seeds)` of Algorithm 2, line 15: evolution after Guo et al. 2019, Algorithm 1."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from jaxtyping import Int64
from torch import Generator, Tensor

from vaenas.evaluation.supernet import Evaluate
from vaenas.records import Record
from vaenas.search.evaluated_set import EvaluatedSet, score
from vaenas.search.settings import EvolutionSettings
from vaenas.spaces.space import IsFeasible, Population, Scores, SearchSpace, rows_in

ATTEMPTS = 20  # rounds of proposals for children that are new and feasible, before fresh draws fill up


E = TypeVar("E", bound="Evolution")


@dataclass
class Evolution:
    """All that changes while evolution runs; a resumed run goes on from it."""

    initial: Int64[Tensor, "_ s"]  # population
    evaluated: EvaluatedSet
    generation: int = 0  # generations finished

    @classmethod
    def start(cls: type[E], initial: Population) -> E:
        return cls(initial, EvaluatedSet(initial.shape[1]))

    def run(
        self,
        space: SearchSpace,
        settings: EvolutionSettings,
        evaluate: Evaluate,
        is_feasible: IsFeasible,
        rng: Generator,
    ) -> Iterator[Record]:
        """To the last generation. Every child keeps `is_feasible`; the initial population must already."""
        for generation in range(self.generation, settings.generations):
            population = self.initial
            if generation > 0:
                population = next_generation(self.evaluated, space, settings, is_feasible, rng)
            scores = yield from score(population, evaluate, "evolution", self.evaluated)
            self.generation = generation + 1
            yield Record("generation", {"generation": generation, **self.told(scores)})

    def told(self, scores: Scores) -> dict[str, Any]:
        """The best score so far, and those of one generation."""
        return {
            "best": float(self.evaluated.scores.max()), "mean": float(scores.mean()), "scores": scores.tolist()
        }  # fmt: skip

    def predicted(self, space: SearchSpace) -> Scores:
        """What the search goes by, of all that is evaluated: the scores themselves."""
        return self.evaluated.scores

    def state_dict(self) -> dict[str, Any]:
        return {**vars(self), "evaluated": self.evaluated.state_dict()}

    @classmethod
    def from_state_dict(cls: type[E], state: dict[str, Any]) -> E:
        return cls(**{**state, "evaluated": EvaluatedSet.from_state_dict(state["evaluated"])})


def next_generation(
    evaluated: EvaluatedSet, space: SearchSpace, settings: EvolutionSettings, is_feasible: IsFeasible, rng: Generator
) -> Population:
    """P children of the k best so far: half by mutation, half by crossover, fresh draws where those give too few."""
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
    # A space can be used up, or the constraints leave little: then known architectures fill the generation.
    return torch.cat([children, parents.repeat(settings.population, 1)])[: settings.population]


def _with_new(
    children: Int64[Tensor, "_ s"],
    propose: Callable[[int], Population],
    size: int,
    evaluated: EvaluatedSet,
    space: SearchSpace,
    is_feasible: IsFeasible,
) -> Int64[Tensor, "_ s"]:
    """`children` and new, valid, feasible proposals, `size` in all where that many are found."""
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
