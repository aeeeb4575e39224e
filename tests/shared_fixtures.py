"""A small real search problem: built-in images, the smallest supernet."""

from collections.abc import Callable, Sequence
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
from vaenas.samplers.mixture import linear_epsilon
from vaenas.samplers.sampler import Sampler
from vaenas.search.one_shot import OneShot, OneShotSettings, OneShotState
from vaenas.search.settings import EvolutionSettings
from vaenas.spaces.space import IsFeasible, SearchSpace

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


def tiny_search(
    problem: Problem,
    make: Callable[[SearchSpace, torch.Generator], Sampler],
    is_feasible: IsFeasible | None = None,
    **changes: object,
) -> tuple[OneShot, OneShotState]:
    """Algorithm 2 on the problem: 12 steps, an update every 4, two generations of 6."""
    rng = torch.Generator().manual_seed(7)
    fabric = Fabric(accelerator="cpu", devices=1)
    optimizer = torch.optim.SGD(problem.network.parameters(), 0.05, momentum=0.9, weight_decay=3e-5)
    network, optimizer = fabric.setup(problem.network, optimizer)
    settings = {
        "steps": 12, "vae_interval": 4, "ranking_size": 8, "epsilon": linear_epsilon(1 / 12), "batch_size": 16,
        "learning_rate": 0.05, "label_smoothing": 0.1, "clip_norm": 5.0,
        "evolution": EvolutionSettings(population=6, generations=2, top_k=3),
    }  # fmt: skip
    search = OneShot(
        problem.space, OneShotSettings(**{**settings, **changes}), fabric, problem.training, problem.augment,
        problem.evaluate, is_feasible or (lambda population: torch.ones(len(population), dtype=torch.bool)),
    )  # fmt: skip
    return search, OneShotState(network, optimizer, make(problem.space, rng), rng)
