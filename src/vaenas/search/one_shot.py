"""VAENAS - One-Shot: Algorithm 2, line by line. Comments cite its lines."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float32, Int64
from lightning_fabric import Fabric
from torch import Generator, Tensor, nn

from vaenas.errors import UserError
from vaenas.evaluation.supernet import Batch, Evaluate
from vaenas.samplers.mixture import Mixture
from vaenas.samplers.sampler import LearnedSampler, Sampler
from vaenas.samplers.uniform import UniformSampler
from vaenas.search.archive import Archive, score
from vaenas.search.evolution import Evolution, EvolutionSettings, evolve
from vaenas.search.record import Record
from vaenas.spaces.space import Accept, Population, SearchSpace, draw_valid

LOOKAHEAD = 256  # architectures drawn at once: decoding one by one would cost as much as a layer of the network


@runtime_checkable
class TrainingImages(Protocol):
    """The images that train the weights, disjoint from those that rank."""

    def __len__(self) -> int: ...

    def batch(self, indices: Int64[Tensor, "b"]) -> Batch: ...


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


@dataclass
class Ranking:
    """Lines 6-8 under way: the population drawn from Γ, where its rows come from, and the scores so far."""

    population: Population
    learned: Bool[Tensor, "n"]
    archive: Archive


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
    compared: Archive | None = None
    ended: bool = False  # the comparison has been told

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and dictionaries of them, random states included."""
        ranking, evolution = self.ranking, self.evolution
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "sampler": self.sampler.state_dict(),
            "rng": self.rng.get_state(),
            "torch_rng": torch.get_rng_state(),  # dropout's
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "step": self.step,
            "order": self.order,
            "upcoming": self.upcoming,
            "ranking": ranking and [ranking.population, ranking.learned, ranking.archive.state_dict()],
            "evolution": evolution and evolution.state_dict(),
            "uniform": self.uniform,
            "compared": None if self.compared is None else self.compared.state_dict(),
            "ended": self.ended,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.sampler.load_state_dict(state["sampler"])
        self.rng.set_state(state["rng"])
        torch.set_rng_state(state["torch_rng"])
        if state["cuda_rng"]:
            torch.cuda.set_rng_state_all(state["cuda_rng"])
        self.step, self.order, self.upcoming = state["step"], state["order"], state["upcoming"]
        if state["ranking"] is not None:
            population, learned, archive = state["ranking"]
            self.ranking = Ranking(population, learned, Archive.from_state_dict(archive))
        if state["evolution"] is not None:
            self.evolution = Evolution.from_state_dict(state["evolution"])
        self.uniform, self.ended = state["uniform"], state["ended"]
        if state["compared"] is not None:
            self.compared = Archive.from_state_dict(state["compared"])


@dataclass
class OneShot:
    """What Algorithm 2 works on: everything that does not change during the search."""

    space: SearchSpace
    settings: OneShotSettings
    fabric: Fabric
    images: TrainingImages
    augment: Callable[[Tensor, Generator], Float32[Tensor, "b c h w"]]
    evaluate: Evaluate
    accept: Accept  # kept by what is ranked, seeded and returned; training draws from all of Γ
    limits: str = "the limits"  # what `accept` is, for messages

    def run(self, state: OneShotState) -> Iterator[Record]:
        """Algorithm 2 from `state` on. At each record the state is whole: save it or stop as you like."""
        settings, sampler = self.settings, state.sampler
        learned = sampler if isinstance(sampler, LearnedSampler) else None
        # Line 1. A sampler that does not learn takes the place of U, and ε stays 0.
        gamma = Mixture(UniformSampler(self.space) if learned else sampler, sampler)
        epsilon = settings.epsilon if learned else lambda step: 0.0

        while state.step < settings.steps or state.ranking:  # line 2
            if state.ranking and learned:
                yield from self._rank_and_learn(state, state.ranking, learned)  # lines 7-9
                continue
            architecture = self._next_architecture(state, gamma, epsilon)  # line 3
            values = self._train_step(state, architecture)  # line 4
            values["epsilon"] = epsilon(state.step)
            state.step += 1
            if learned and state.step % settings.vae_interval == 0:  # line 5
                shares = torch.full((settings.ranking_size,), values["epsilon"])
                drawn = gamma.sample(shares, state.rng, self.accept, self.limits)  # line 6
                state.ranking = Ranking(*drawn, Archive(self.space.slots))
            yield Record("train", values)  # line 11: ε is a function of the step

        if state.evolution is None:  # lines 13-14; without a learned sampler the seeds are uniform (Guo et al. 2019)
            seeds = self._draw(sampler if learned else UniformSampler(self.space), state.rng)
            state.evolution = Evolution.start(seeds)
        yield from evolve(  # line 15
            state.evolution, self.space, settings.evolution, self.evaluate, self.accept, state.rng
        )
        if learned and not state.ended:
            yield from self._compare(state, state.evolution)

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

    def _train_step(self, state: OneShotState, architecture: Int64[Tensor, "s"]) -> dict[str, float]:
        """Line 4: one step of SGD on W_α. Weights off the path have no gradient, so nothing moves them."""
        settings, network, optimizer = self.settings, state.network, state.optimizer
        if len(state.order) < settings.batch_size:  # a new epoch; the last, smaller batch is left out
            state.order = torch.randperm(len(self.images), generator=state.rng)
        rows, state.order = state.order[: settings.batch_size], state.order[settings.batch_size :]
        images, labels = self.images.batch(rows)
        inputs = self.augment(images.to(self.fabric.device), state.rng)
        targets = labels.to(self.fabric.device)

        rate = settings.learning_rate * (1 - state.step / settings.steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        logits = network(inputs, architecture)  # (b, classes)
        loss = nn.functional.cross_entropy(logits, targets, label_smoothing=settings.label_smoothing)
        self.fabric.backward(loss)
        norm = self.fabric.clip_gradients(network, optimizer, max_norm=settings.clip_norm, error_if_nonfinite=False)
        value = float(loss.detach())
        if not (torch.isfinite(loss) and norm is not None and torch.isfinite(norm)):
            optimizer.zero_grad(set_to_none=True)
            raise UserError(
                f"step {state.step + 1}: the loss is {value:g} and the gradient's norm {float(norm or 0):g}: training "
                f"diverged at learning rate {rate:.3g}; the last checkpoint is kept; begin a new run with a lower "
                f"--learning-rate"
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)  # None, not 0: SGD then skips the path's weights when it is not sampled
        accuracy = float((logits.argmax(-1) == targets).float().mean())
        return {"loss": value, "accuracy": accuracy, "lr": rate}

    def _rank_and_learn(self, state: OneShotState, ranking: Ranking, sampler: LearnedSampler) -> Iterator[Record]:
        """Lines 7-9: evaluate the population of line 6 and call Algorithm 1 on it."""
        for done, total in score(ranking.population, ranking.archive, self.evaluate):  # line 7
            yield Record("evaluation", {"of": "ranking", "done": done, "total": total})
        scores = ranking.archive.lookup(ranking.population)  # line 8: S
        stats = sampler.update(ranking.population, scores, state.rng)  # line 9
        state.ranking = None
        yield Record(
            "update",
            {
                "epsilon": self.settings.epsilon(state.step - 1),
                "population": ranking.population.tolist(),
                "scores": scores.tolist(),
                "learned": ranking.learned.tolist(),
                **{name: value for name, value in asdict(stats).items() if value is not None},
            },
        )

    def _draw(self, sampler: Sampler, rng: Generator) -> Population:
        """N_seeds architectures that keep the limits."""
        n = self.settings.evolution.population
        return draw_valid(lambda m: sampler.sample(m, rng), self.accept, n, limits=self.limits)

    def _compare(self, state: OneShotState, evolution: Evolution) -> Iterator[Record]:
        """Did the sampler learn? The scores of line 13's draws against as many uniform ones, on the final weights."""
        if state.compared is None or state.uniform is None:
            state.uniform = self._draw(UniformSampler(self.space), state.rng)
            state.compared = Archive(self.space.slots)
        for done, total in score(state.uniform, state.compared, self.evaluate):
            yield Record("evaluation", {"of": "comparison", "done": done, "total": total})
        values = {
            "sampler": evolution.archive.lookup(evolution.seeds).tolist(),
            "uniform": state.compared.lookup(state.uniform).tolist(),
        }
        state.ended = True
        yield Record("comparison", values)
