"""What Algorithms 2 and 3 share: what a search works on and changes, line 9, and the comparison at its end."""

from collections.abc import Generator
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vaenas.evaluation.supernet import Evaluate
from vaenas.records import Record
from vaenas.samplers.mixture import Mixture
from vaenas.samplers.sampler import LearnedSampler, Prefetched, Sampler
from vaenas.samplers.uniform import UniformSampler
from vaenas.search.evaluated_set import EvaluatedSet, score
from vaenas.search.settings import SamplerTraining, SurrogateSettings
from vaenas.search.supernet_training import SupernetTrainer
from vaenas.search.surrogate import Fuse, RidgeSurrogate, unfused
from vaenas.spaces.space import IsFeasible, Population, Scores, SearchSpace, draw_valid

# A record of these kinds is told after the last change of an iteration, a generation or a round: there, and nowhere
# else, the state is whole and can be saved.
BOUNDARIES = ("train", "generation", "surrogate")
PREDICTED = 1000  # draws that the sampler learns from by what a ridge surrogate says of them


@dataclass(frozen=True)
class Found:
    """What a search ends with."""

    population: Population  # all that was evaluated on the final weights
    scores: Scores  # the supernet's
    predicted: Scores  # what the search goes by: the scores, or what a surrogate makes of them
    best: int  # the row of α*
    draws: dict[str, Float[Tensor, "_"]] | None  # scores of the "sampler"'s draws and "uniform" ones; None: none learns


@dataclass(kw_only=True)
class Search:
    """What a search works on and changes: saved at a boundary and loaded again, it goes on to the same bits."""

    parts: ClassVar = ("trainer", "sampler")  # what changes: with a state of its own,
    plain: ClassVar = ("step",)  # and without

    space: SearchSpace
    trainer: SupernetTrainer
    sampler: Sampler
    evaluate: Evaluate  # on the supernet's weights as they are
    rng: torch.Generator
    training: SamplerTraining
    surrogate: SurrogateSettings
    is_feasible: IsFeasible  # kept by what is ranked, learned from and returned; training draws from the whole space
    constraints: str = "the limits"  # what `is_feasible` is, for messages
    fuse: Fuse = unfused
    step: int = 0  # iterations finished
    ahead: Prefetched = field(init=False)  # the architectures of the next steps

    @property
    def learned(self) -> LearnedSampler | None:
        """The sampler, if Algorithm 1 trains it."""
        return self.sampler if isinstance(self.sampler, LearnedSampler) else None

    @property
    def n_vae(self) -> int:
        """Iterations between updates of the sampler."""
        return max(1, round(self.training.vae_interval * self.trainer.steps_per_epoch))

    def ranks(self, step: int) -> bool:
        """Line 5: whether the iteration that begins after `step` others ranks a population."""
        return self.learned is not None and (step + 1) % self.n_vae == 0

    def ends_interval(self, step: int) -> bool:
        """Whether that iteration is the last of n_vae or of all: it tells more, so the boundary before is saved."""
        return (step + 1) % self.n_vae == 0 or step + 1 == self.trainer.steps

    def draw(self, sampler: Sampler, n: int) -> Population:
        """n feasible architectures."""
        return draw_valid(partial(sampler.sample, rng=self.rng), self.is_feasible, n, constraints=self.constraints)

    def surrogate_to(self, population: Population, scores: Scores) -> RidgeSurrogate:
        """Of what the supernet's scores of (n, s), fused where they are, say."""
        return RidgeSurrogate(self.space, population, self.fuse(population, scores))

    def learn(self, population: Population, learned: Bool[Tensor, "n"], scores: Scores, epsilon: float = 0.0) -> Record:
        """Line 9: Algorithm 1 on S, of which `learned` are the sampler's.

        With a surrogate to the scores it learns, some rounds, from what that expects of S and of `PREDICTED` fresh
        draws of Γ, for which nothing is evaluated. Their ε is K: with a larger one a sampler whose draws are the best
        would keep ever fewer of them (docs/explanation/surrogate.md).
        """
        sampler, told = self.learned, dict[str, Any]()
        assert sampler is not None  # as `ranks` has made sure
        surrogate = self.surrogate_to(population, scores) if self.surrogate.kind == "ridge" else None
        gamma, shares = Mixture(UniformSampler(self.space), sampler), torch.full((PREDICTED,), sampler.keep_ratio)
        for _ in range(self.surrogate.rounds if surrogate else 1):
            seen, expected = population, scores
            if surrogate:
                seen = torch.cat([seen, gamma.sample(shares, self.rng, self.is_feasible, self.constraints)[0]])
                expected = surrogate(seen)
            told = asdict(sampler.update(seen, expected, self.rng))
        told = {name: value for name, value in told.items() if value is not None}
        lists = {"population": population.tolist(), "scores": scores.tolist(), "learned": learned.tolist()}
        return Record("update", {"epsilon": epsilon, **lists, **told})

    def compare(self, evaluated: EvaluatedSet, drawn: Population) -> Generator[Record, None, dict[str, Scores]]:
        """Did the sampler learn? Scores of its n draws, which are evaluated, and of n uniform ones, which will be."""
        uniform = self.draw(UniformSampler(self.space), len(drawn))
        scores = yield from score(uniform, self.evaluate, "comparison", evaluated)
        draws = {"sampler": evaluated.lookup(drawn), "uniform": scores}
        yield Record("comparison", {name: of.tolist() for name, of in draws.items()})
        return draws

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and dictionaries of them, random states included."""
        parts = {name: getattr(self, name).state_dict() for name in self.parts}
        plain = {name: getattr(self, name) for name in self.plain}
        return {**parts, **plain, "rng": self.rng.get_state(), "ahead": self.ahead.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in self.parts:
            getattr(self, name).load_state_dict(state[name])
        for name in self.plain:
            setattr(self, name, state[name])
        self.rng.set_state(state["rng"])
        self.ahead.rows = state["ahead"]
