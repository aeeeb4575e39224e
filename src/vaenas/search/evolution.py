"""`Search(G, A, S_seeds)` of Algorithm 2, line 15: evolution after Guo et al. 2019, Algorithm 1."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator

from vaenas.evaluation.supernet import Evaluate
from vaenas.records import Record
from vaenas.search.evaluated_set import EvaluatedSet, score
from vaenas.search.settings import EvolutionSettings
from vaenas.spaces.space import IsFeasible, Population, Scores, SearchSpace, rows_in

ATTEMPTS = 20  # rounds of proposals for children that are new and feasible, before fresh draws fill up


@dataclass
class Evolution:
    """Generations of architectures that keep `is_feasible`; the initial population must already."""

    kind: ClassVar[str] = "generation"  # of its records
    of: ClassVar[str] = "evolution"  # are the scores

    space: SearchSpace
    settings: EvolutionSettings
    evaluate: Evaluate
    is_feasible: IsFeasible
    rng: Generator
    initial: Population

    def __post_init__(self) -> None:
        self.evaluated, self.generation = EvaluatedSet(self.space.slots), 0  # generations finished

    def run(self) -> Iterator[Record]:
        """To the last generation."""
        for generation in range(self.generation, self.settings.generations):
            population, told = self.propose(generation)
            scores = yield from score(population, self.evaluate, self.of, self.evaluated)
            self.generation = generation + 1
            told |= {"best": float(self.evaluated.scores.max()), "mean": float(scores.mean())}
            yield Record(self.kind, {**told, "scores": scores.tolist()})

    def propose(self, generation: int) -> tuple[Population, dict[str, Any]]:
        """What a generation evaluates, and what is told of it."""
        return self.children() if generation else self.initial, {"generation": generation}

    def predicted(self) -> Scores:
        """What the search goes by, of all that is evaluated: the scores themselves."""
        return self.evaluated.scores

    def children(self) -> Population:
        """P children of the k best so far: half by mutation, half by crossover, fresh draws where those are too few."""
        space, size, rng = self.space, self.settings.population, self.rng
        parents = self.evaluated.best(self.settings.top_k)

        def pick(n: int) -> Population:
            return parents[torch.randint(len(parents), (n,), generator=rng)]

        children = parents[:0]
        for propose, upto in (
            (lambda n: space.mutate(pick(n), self.settings.mutation_prob, rng), size // 2),
            (lambda n: space.crossover(pick(n), pick(n), rng), size),
            (lambda n: space.uniform(n, rng), size),
        ):
            for _ in range(ATTEMPTS):
                if len(children) >= upto:
                    break
                new = propose(4 * upto)
                new = new[space.is_valid(new) & self.is_feasible(new)]
                new = new[~rows_in(new, torch.cat([self.evaluated.population, children]))]
                repeated = (new[:, None, :] == new[None, :, :]).all(-1).tril(-1).any(-1)
                children = torch.cat([children, new[~repeated]])[:upto]
        # A space can be used up, or the constraints leave little: then known architectures fill the generation.
        return torch.cat([children, parents.repeat(size, 1)])[:size]

    def state_dict(self) -> dict[str, Any]:
        known = self.evaluated
        told = {"initial": self.initial, "generation": self.generation}
        return {**told, "population": known.population, "scores": known.scores}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.initial, self.generation = state["initial"], state["generation"]
        self.evaluated.population, self.evaluated.scores = state["population"], state["scores"]
