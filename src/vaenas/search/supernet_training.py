"""What Algorithms 2 and 3 share: a step of the weights, ranking, Algorithm 1, and the state that these change."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Float32, Int64
from lightning_fabric import Fabric
from torch import Generator, Tensor, nn

from vaenas import parallel
from vaenas.errors import UserError
from vaenas.evaluation.supernet import Batch, Evaluate
from vaenas.optimizers import load_optimizer
from vaenas.samplers.mixture import Mixture
from vaenas.samplers.sampler import LearnedSampler, Sampler, UpdateStats
from vaenas.samplers.uniform import UniformSampler
from vaenas.search.evaluated_set import EvaluatedSet, score
from vaenas.search.record import Record
from vaenas.search.surrogate import RidgeSurrogate
from vaenas.spaces.space import IsFeasible, Population, Scores, SearchSpace, draw_valid

PREDICTED = 1000  # draws that the sampler learns from by what a ridge surrogate says of them

Augment = Callable[[Tensor, Generator], Float32[Tensor, "b c h w"]]


@runtime_checkable
class TrainingImages(Protocol):
    """Images that train weights, disjoint from those that rank."""

    def __len__(self) -> int: ...

    def batch(self, indices: Int64[Tensor, "b"]) -> Batch: ...


@dataclass
class Ranking:
    """A ranking under way: the population, which of its rows the learned sampler drew, and the scores so far."""

    population: Population
    learned: Bool[Tensor, "n"]
    evaluated: EvaluatedSet


@dataclass(frozen=True)
class SurrogateSettings:
    """How line 9 learns from a ridge surrogate to the scores, see `learn_from_fit`."""

    epsilon: float  # of the Γ that the predicted draws are from; K, or the sampler loses its variety
    rounds: int = 2


@runtime_checkable
class Settings(Protocol):
    """Of the weights' training (App. A.1)."""

    @property
    def steps(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def label_smoothing(self) -> float: ...
    @property
    def clip_norm(self) -> float: ...
    @property
    def surrogate(self) -> SurrogateSettings | None: ...


@runtime_checkable
class Search(Protocol):
    """What does not change during a search."""

    @property
    def settings(self) -> Settings: ...

    space: SearchSpace
    fabric: Fabric
    images: TrainingImages
    augment: Augment
    evaluate: Evaluate
    is_feasible: IsFeasible
    constraints: str


@runtime_checkable
class State(Protocol):
    """What changes, as far as it is common."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    sampler: Sampler
    rng: Generator
    step: int
    order: Int64[Tensor, "_"]  # rows of the training images that are left in this epoch
    ranking: Ranking | None
    uniform: Population | None  # as many uniform draws as the sampler's, for comparison at the end
    compared: EvaluatedSet | None  # their scores
    ended: bool  # the comparison has been told


def state_dict(state: State) -> dict[str, Any]:
    """The common part: tensors, numbers and dictionaries of them, random states included."""
    ranking = state.ranking
    return {
        "network": state.network.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "sampler": state.sampler.state_dict(),
        "rng": state.rng.get_state(),
        "torch_rng": torch.get_rng_state(),  # dropout's
        "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "step": state.step,
        "order": state.order,
        "ranking": ranking and [ranking.population, ranking.learned, ranking.evaluated.state_dict()],
        "uniform": state.uniform,
        "compared": None if state.compared is None else state.compared.state_dict(),
        "ended": state.ended,
    }


def load_state_dict(state: State, saved: dict[str, Any]) -> None:
    """The inverse."""
    state.network.load_state_dict(saved["network"])
    load_optimizer(state.optimizer, saved["optimizer"])
    state.sampler.load_state_dict(saved["sampler"])
    state.rng.set_state(saved["rng"])
    torch.set_rng_state(saved["torch_rng"])
    if saved["cuda_rng"]:
        torch.cuda.set_rng_state_all(saved["cuda_rng"])
    state.step, state.order, state.ended = saved["step"], saved["order"], saved["ended"]
    if saved["ranking"] is not None:
        population, learned, evaluated = saved["ranking"]
        state.ranking = Ranking(population, learned, EvaluatedSet.from_state_dict(evaluated))
    state.uniform = saved["uniform"]
    if saved["compared"] is not None:
        state.compared = EvaluatedSet.from_state_dict(saved["compared"])


def next_rows(
    order: Int64[Tensor, "_"], images: TrainingImages, size: int, rng: Generator
) -> tuple[Int64[Tensor, "b"], Int64[Tensor, "_"]]:
    """The rows of the next batch, and those left; a new epoch begins where they don't fill a batch."""
    if len(order) < size:
        order = torch.randperm(len(images), generator=rng)
    return order[:size], order[size:]


def train_step(
    search: Search,
    state: State,
    architecture: Int64[Tensor, "s"] | Int64[Tensor, "s m"],
    gates: Float[Tensor, "s m"] | None = None,
) -> dict[str, float]:
    """One step of SGD on W_α. Weights off the path have no gradient, so nothing moves them."""
    settings, network, optimizer, fabric = search.settings, state.network, state.optimizer, search.fabric
    rows, state.order = next_rows(state.order, search.images, settings.batch_size, state.rng)
    images, labels = search.images.batch(parallel.local_chunk(rows))
    inputs = search.augment(images.to(fabric.device), state.rng)
    targets = labels.to(fabric.device)

    rate = settings.learning_rate * (1 - state.step / settings.steps)
    for group in optimizer.param_groups:
        group["lr"] = rate
    logits = network(inputs, architecture) if gates is None else network(inputs, architecture, gates)  # (b, classes)
    loss = nn.functional.cross_entropy(logits, targets, label_smoothing=settings.label_smoothing)
    fabric.backward(loss)
    parallel.reduce_gradients(network)
    norm = fabric.clip_gradients(network, optimizer, max_norm=settings.clip_norm, error_if_nonfinite=False)
    right = (logits.detach().argmax(-1) == targets).float().mean()
    value, accuracy = parallel.all_reduce_mean(torch.stack([loss.detach().float(), right])).tolist()
    if not (math.isfinite(value) and norm is not None and torch.isfinite(norm)):
        optimizer.zero_grad(set_to_none=True)
        raise UserError(
            f"step {state.step + 1}: the loss is {value:g} and the gradient's norm {float(norm or 0):g}: training "
            f"diverged at learning rate {rate:.3g}; the last checkpoint is kept; begin a new run with a lower "
            f"--learning-rate"
        )
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)  # None, not 0: SGD then skips the path's weights when it is not sampled
    return {"loss": value, "accuracy": accuracy, "lr": rate}


def rank_and_learn(
    search: Search, state: State, ranking: Ranking, sampler: LearnedSampler, epsilon: float
) -> Iterator[Record]:
    """Lines 7-9 of Algorithms 2 and 3: evaluate the population of line 6 and call Algorithm 1 on it."""
    for done, total in score(ranking.population, ranking.evaluated, search.evaluate):  # line 7
        yield Record("evaluation", {"of": "ranking", "done": done, "total": total})
    population = ranking.population
    scores = ranking.evaluated.lookup(population)  # line 8: S
    surrogate = search.settings.surrogate
    if surrogate:
        stats = learn_from_fit(
            sampler, population, scores, surrogate, state.rng, search.is_feasible, search.constraints
        )
    else:
        stats = sampler.update(population, scores, state.rng)  # line 9
    state.ranking = None
    yield Record(
        "update",
        {
            "epsilon": epsilon,
            "population": population.tolist(),
            "scores": scores.tolist(),
            "learned": ranking.learned.tolist(),
            **{name: value for name, value in asdict(stats).items() if value is not None},
        },
    )


def learn_from_fit(
    sampler: LearnedSampler,
    population: Population,
    scores: Scores,
    surrogate: SurrogateSettings,
    rng: Generator,
    is_feasible: IsFeasible | None = None,
    constraints: str = "",
) -> UpdateStats:
    """Line 9 on what a ridge surrogate to the scores expects, of more architectures than have been scored.

    Algorithm 1 is called `rounds` times, each on the population and `PREDICTED` fresh draws of Γ, for which nothing is
    evaluated. With an ε larger than K a sampler whose draws are the best would keep ever fewer of them
    (docs/explanation/surrogate.md).
    """
    fit, gamma = RidgeSurrogate(sampler.space, population, scores), Mixture(UniformSampler(sampler.space), sampler)

    def update() -> UpdateStats:
        drawn, _ = gamma.sample(torch.full((PREDICTED,), surrogate.epsilon), rng, is_feasible, constraints)
        drawn = torch.cat([population, drawn])
        return sampler.update(drawn, fit(drawn), rng)

    return [update() for _ in range(surrogate.rounds)][-1]


def draw(search: Search, sampler: Sampler, n: int, rng: Generator) -> Population:
    """n architectures that keep the limits."""
    return draw_valid(lambda m: sampler.sample(m, rng), search.is_feasible, n, constraints=search.constraints)


def compare(search: Search, state: State, scores: Float[Tensor, "n"]) -> Iterator[Record]:
    """Did the sampler learn? The scores of its n draws against those of n uniform ones, on the final weights."""
    if state.compared is None or state.uniform is None:
        state.uniform = draw(search, UniformSampler(search.space), len(scores), state.rng)
        state.compared = EvaluatedSet(search.space.slots)
    for done, total in score(state.uniform, state.compared, search.evaluate):
        yield Record("evaluation", {"of": "comparison", "done": done, "total": total})
    state.ended = True
    uniform = state.compared.lookup(state.uniform)
    yield Record("comparison", {"sampler": scores.tolist(), "uniform": uniform.tolist()})
