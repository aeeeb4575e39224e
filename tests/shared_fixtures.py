"""A small real search problem: built-in images, the smallest supernet."""

import inspect
import io
import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from lightning_fabric import Fabric

from vaenas.data.augment import Augment
from vaenas.data.images import Batch, ImageData
from vaenas.data.load import load
from vaenas.data.settings import DataSettings
from vaenas.evaluation.supernet import SupernetEvaluator
from vaenas.networks import NetworkConfig, Supernet
from vaenas.networks.cost import Cost
from vaenas.networks.shufflenet import ShuffleNetImageSpace
from vaenas.records import Record
from vaenas.samplers.sampler import Sampler
from vaenas.search.one_shot import OneShot
from vaenas.search.search import BOUNDARIES, Found, Search
from vaenas.search.settings import EvolutionSettings, SamplerTraining, SupernetTraining, SurrogateSettings
from vaenas.search.supernet_training import SupernetTrainer
from vaenas.spaces.space import IsFeasible, Population, SearchSpace

SHUFFLENET = ShuffleNetImageSpace(NetworkConfig(28, 1, 10, width=0.125, layers=5))


@cache
def built_in() -> ImageData:
    """Loaded once: its checksum takes longer than a step."""
    return load(DataSettings())


@dataclass
class Images:
    """Some rows of the built-in training images."""

    rows: torch.Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: torch.Tensor) -> Batch:
        return built_in().train.batch(self.rows[indices])


@dataclass
class Problem:
    """Network, images, evaluator and cost of one small search."""

    space: SearchSpace
    network: Supernet
    training: Images
    recalibration: Sequence[Batch]
    ranking: Sequence[Batch]
    prepare: Callable[[torch.Tensor], torch.Tensor]
    augment: Augment
    evaluate: SupernetEvaluator
    cost: Cost


def tiny_problem(seed: int = 0) -> Problem:
    torch.manual_seed(seed)
    data = built_in()
    network = SHUFFLENET.supernet()
    augment = Augment(data.mean, data.std, padding=2)
    training = Images(torch.arange(200))
    recalibration = [training.batch(torch.arange(32)), training.batch(torch.arange(32, 64))]
    ranking = [data.train.batch(torch.arange(5000, 5050)), data.train.batch(torch.arange(6000, 6050))]
    evaluate = SupernetEvaluator(network, recalibration, ranking, augment.plain)
    space, cost = SHUFFLENET.space, SHUFFLENET.cost
    return Problem(space, network, training, recalibration, ranking, augment.plain, augment, evaluate, cost)


SUPERNET = SupernetTraining(epochs=1, batch_size=16, learning_rate=0.05)  # 12 steps
TRAINING = SamplerTraining(vae_interval=1 / 3, ranking_size=8, epsilon_limit=1.0)
BY_SCORES = SurrogateSettings("none")


def anything(population: Population) -> torch.Tensor:
    """No constraint."""
    return torch.ones(len(population), dtype=torch.bool)


def tiny_trainer(problem: Problem, rng: torch.Generator, supernet: SupernetTraining = SUPERNET) -> SupernetTrainer:
    fabric = Fabric(accelerator="cpu", devices=1)
    return SupernetTrainer(problem.network, supernet, problem.training, problem.augment, fabric, rng)


def tiny_search(
    problem: Problem,
    make: Callable[[SearchSpace, torch.Generator], Sampler],
    is_feasible: IsFeasible = anything,
    supernet: SupernetTraining = SUPERNET,
    training: SamplerTraining = TRAINING,
    surrogate: SurrogateSettings = BY_SCORES,
    evolution: EvolutionSettings = EvolutionSettings(population=6, generations=2, top_k=3),  # noqa: B008  # frozen
) -> OneShot:
    """Algorithm 2 on the problem: 12 steps, an update every 4, two generations of 6."""
    rng = torch.Generator().manual_seed(7)
    return OneShot(
        space=problem.space, trainer=tiny_trainer(problem, rng, supernet), sampler=make(problem.space, rng),
        evaluate=problem.evaluate, rng=rng, training=training, surrogate=surrogate, is_feasible=is_feasible,
        evolution=evolution,
    )  # fmt: skip


def finish(
    run: Generator[Record, None, Found], search: Search | None = None
) -> tuple[list[Record], Found, list[bytes]]:
    """All records of a search, what it ends with, and its state as it was saved at each boundary."""
    records, saved = [], []
    while True:
        try:
            records.append(next(run))
        except StopIteration as ended:
            return records, ended.value, saved
        if search is not None and records[-1].kind in BOUNDARIES:
            file = io.BytesIO()
            torch.save(search.state_dict(), file)
            saved.append(file.getvalue())


def numbered_lines(function: Callable[..., object]) -> list[int]:
    """The numbers of the paper's lines in a function's comments, in their order."""
    cited = re.findall(r"# lines? (\d+)(?:(, | to )(\d+))?", inspect.getsource(function))
    return [n for a, between, b in cited for n in (range(int(a), int(b) + 1) if between else [int(a)])]
