"""VAENAS - One-Shot: Algorithm 2, line by line. Comments cite its lines."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int64
from lightning_fabric import Fabric
from torch import Generator, Tensor, nn

from vaenas.evaluation.supernet import Evaluate
from vaenas.records import Record
from vaenas.samplers.mixture import Mixture
from vaenas.samplers.sampler import LearnedSampler, Sampler
from vaenas.samplers.uniform import UniformSampler
from vaenas.search import supernet_training
from vaenas.search.evaluated_set import EvaluatedSet
from vaenas.search.evolution import Evolution, EvolutionSettings, evolve
from vaenas.search.supernet_training import Augment, Ranking, SurrogateSettings, TrainingImages
from vaenas.spaces.space import IsFeasible, Population, Scores, SearchSpace

LOOKAHEAD = 256  # architectures drawn at once: decoding one by one would cost as much as a layer of the network


@dataclass(frozen=True)
class OneShotSettings:
    """Inputs of Algorithm 2 and App. A.1's optimizer."""

    steps: int  # n_iters^sup
    vae_interval: int  # n_vae, in iterations
    ranking_size: int  # N_s
    epsilon: Callable[[int], float]  # lines 1 and 11, as a function of the steps done
    batch_size: int
    learning_rate: float  # at the first step; falls linearly to 0 after the last (App. A.1)
    label_smoothing: float
    clip_norm: float
    evolution: EvolutionSettings
    surrogate: SurrogateSettings | None = None  # line 8: the sampler learns from a ridge surrogate to S


@dataclass
class OneShotState:
    """All that changes during a search. Saved at any record and loaded again, the search goes on to the same bits."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    sampler: Sampler
    rng: Generator
    step: int = 0
    order: Int64[Tensor, "_"] = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))  # rows left this epoch
    upcoming: Population | None = None  # drawn for the next steps
    ranking: Ranking | None = None
    evolution: Evolution | None = None
    uniform: Population | None = None  # line 13's counterpart: as many uniform draws, for comparison
    compared: EvaluatedSet | None = None
    ended: bool = False  # the comparison has been told

    @property
    def evaluated(self) -> EvaluatedSet | None:
        """What the evolution has scored on the final weights."""
        return self.evolution and self.evolution.evaluated

    @property
    def drawn(self) -> Population | None:
        """The sampler's draws of line 13, which are compared with uniform ones."""
        return self.evolution and self.evolution.seeds

    def predicted_score(self, space: SearchSpace, population: Population, scores: Scores) -> Scores:
        """What the search chooses by: the scores, or with a surrogate the fit of the evolution."""
        fit = self.evolution and self.evolution.fit(space)
        return fit(population) if fit else scores

    def answer(self, population: Population, predicted: Scores) -> int:
        """The row that the search returns, line 16: the best."""
        return int(predicted.argmax())

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and dictionaries of them, random states included."""
        return supernet_training.state_dict(self) | {
            "upcoming": self.upcoming,
            "evolution": self.evolution and self.evolution.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        supernet_training.load_state_dict(self, state)
        self.upcoming = state["upcoming"]
        if state["evolution"] is not None:
            self.evolution = Evolution.from_state_dict(state["evolution"])


@dataclass
class OneShot:
    """What Algorithm 2 works on: everything that does not change during the search."""

    space: SearchSpace
    settings: OneShotSettings
    fabric: Fabric
    images: TrainingImages
    augment: Augment
    evaluate: Evaluate
    is_feasible: IsFeasible  # kept by what is ranked, seeded and returned; training draws from all of Γ
    constraints: str = "the limits"  # what `is_feasible` is, for messages

    def run(self, state: OneShotState) -> Iterator[Record]:
        """Algorithm 2 from `state` on. At each record the state is whole: save it or stop as you like."""
        settings, sampler = self.settings, state.sampler
        learned = sampler if isinstance(sampler, LearnedSampler) else None
        # Line 1. A sampler that does not learn takes the place of U, and ε stays 0.
        gamma = Mixture(UniformSampler(self.space) if learned else sampler, sampler)
        epsilon = settings.epsilon if learned else lambda step: 0.0

        while state.step < settings.steps or state.ranking:  # line 2
            if state.ranking and learned:
                reached = epsilon(state.step - 1)
                yield from supernet_training.rank_and_learn(self, state, state.ranking, learned, reached)  # lines 7-9
                continue
            architecture = self._next_architecture(state, gamma, epsilon)  # line 3
            values = supernet_training.train_step(self, state, architecture)  # line 4
            values["epsilon"] = epsilon(state.step)
            state.step += 1
            if learned and state.step % settings.vae_interval == 0:  # line 5
                shares = torch.full((settings.ranking_size,), values["epsilon"])
                drawn = gamma.sample(shares, state.rng, self.is_feasible, self.constraints)  # line 6
                state.ranking = Ranking(*drawn, EvaluatedSet(self.space.slots))
            yield Record("train", values)  # line 11: ε is a function of the step

        if state.evolution is None:  # lines 13-14; without a learned sampler the seeds are uniform (Guo et al. 2019)
            base = sampler if learned else UniformSampler(self.space)
            seeds = supernet_training.draw(self, base, settings.evolution.population, state.rng)
            state.evolution = Evolution.start(seeds)
        yield from evolve(  # line 15
            state.evolution, self.space, settings.evolution, self.evaluate, self.is_feasible, state.rng
        )
        if learned and not state.ended:
            yield from supernet_training.compare(self, state, state.evolution.evaluated.lookup(state.evolution.seeds))

    def _next_architecture(
        self, state: OneShotState, gamma: Mixture, epsilon: Callable[[int], float]
    ) -> Int64[Tensor, "s"]:
        """Line 3, α ~ Γ(α): a block of steps at once, since p_θ changes only at line 9 and ε is known beforehand."""
        if state.upcoming is None or len(state.upcoming) == 0:
            until_update = self.settings.vae_interval - state.step % self.settings.vae_interval
            steps = range(state.step, min(state.step + until_update, state.step + LOOKAHEAD, self.settings.steps))
            shares = torch.tensor([epsilon(step) for step in steps])
            state.upcoming, _ = gamma.sample(shares, state.rng)
        architecture, state.upcoming = state.upcoming[0], state.upcoming[1:]
        return architecture
