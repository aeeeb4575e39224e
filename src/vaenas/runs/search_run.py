"""A search as a run: builds the rooms from the settings, iterates, writes down, resumes."""

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Generator

import vaenas
from vaenas.data import Augment, ImageData, load, split
from vaenas.errors import UserError
from vaenas.evaluation.supernet import Batch, SupernetEvaluator
from vaenas.networks.cost import AdditiveCost, additive_cost
from vaenas.networks.shufflenet import ShuffleNet
from vaenas.runs.config import SearchConfig
from vaenas.runs.directory import MEND, RunDirectory
from vaenas.runs.tensorboard import TensorBoard
from vaenas.samplers.categorical import CategoricalSampler, CategoricalSettings
from vaenas.samplers.mixture import linear_epsilon
from vaenas.samplers.sampler import Sampler
from vaenas.samplers.uniform import FairSampler, UniformSampler
from vaenas.samplers.vae import PAPER_LITERAL, RECOMMENDED, VAESampler
from vaenas.search.archive import pareto_front
from vaenas.search.evolution import EvolutionSettings
from vaenas.search.limits import Limits, uniform_proposals
from vaenas.search.one_shot import OneShot, OneShotSettings, OneShotState
from vaenas.search.record import Record
from vaenas.spaces.shufflenet import ShuffleNetGeometry, drawing, shufflenet_space
from vaenas.spaces.space import SearchSpace

EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Subset:
    """The rows of an image set that one purpose may use."""

    data: Any
    rows: torch.Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: torch.Tensor) -> Batch:
        return self.data.batch(self.rows[indices])

    def batches(self, n: int, size: int = EVALUATION_BATCH) -> list[Batch]:
        """The first n rows in batches of nearly equal size, at most `size`."""
        return [self.batch(part) for part in torch.arange(n).chunk(-(-n // size))]


class SearchRun:
    """One run. Iterate `records()`; stop at any record and `save()`, or be killed: it resumes to the same bits."""

    def __init__(self, config: SearchConfig, directory: Path, resume: bool = False) -> None:
        """Loads the data, checks the limits and builds everything; only then is the directory made or changed.

        Raises:
            UserError: whatever of the settings, data or directory cannot work.
        """
        self.config = config
        self._began, self._seconds_before = time.monotonic(), 0.0
        _check_device(config)
        fabric = Fabric(
            accelerator="auto" if config.device == "auto" else config.device, devices=1, precision=config.precision
        )
        torch.manual_seed(config.seed)
        rng = Generator().manual_seed(config.seed)

        self.data = _load_data(config)
        geometry = ShuffleNetGeometry(
            image_size=self.data.train.image_size,
            image_channels=self.data.train.channels,
            classes=len(self.data.train.classes),
            width=config.width,
            layers=config.layers,
        )
        self.geometry, self.space = geometry, shufflenet_space(config.layers)
        self.cost: AdditiveCost = additive_cost(lambda: ShuffleNet(geometry))
        self.limits = Limits(self.cost, config.max_flops, config.max_params)
        needed = 4 * max(config.population, config.ranking_size)  # rare draws must not run out in mid-search
        self.limits.check(self.space, uniform_proposals(self.space, config.seed), needed)

        training, ranking = _split(config, self.data, rng)
        self.steps_per_epoch = len(training) // config.batch_size
        network, optimizer = fabric.setup(*_network_and_optimizer(config, geometry))
        augment = Augment(self.data.mean, self.data.std, config.padding, flip=True, cutout=config.cutout)
        evaluate = SupernetEvaluator(
            network,
            recalibration=training.batches(config.recalibration_images),
            ranking=ranking.batches(len(ranking)),
            prepare=lambda images: augment.plain(images.to(fabric.device)),
        )
        self.search = OneShot(
            self.space, _settings(config, self.steps_per_epoch), fabric, training, augment, evaluate, self.limits.accept
        )
        self.search.limits = str(self.limits)
        self.state = OneShotState(network, optimizer, make_sampler(config, self.space, rng), rng)

        self.directory = RunDirectory.open(directory) if resume else RunDirectory.create(directory, config)
        self.directory.lock()
        if resume and (checkpoint := self.directory.load_checkpoint()) is not None:
            for name, value in checkpoint["config"].items():
                if value != getattr(config, name):
                    raise UserError(
                        f"{self.directory.config_file}, {name}: {getattr(config, name)} is not what the run was begun "
                        f"with, {value}: put it back, or begin a new run"
                    )
            if checkpoint["data"] != _fingerprint(self.data):
                raise UserError(
                    f"--resume {directory}: the images of {config.data} are not those that the run was begun with: put "
                    f"them back, or begin a new run"
                )
            self.state.load_state_dict(checkpoint["search"])
            self._seconds_before = checkpoint["seconds"]
        self.tensorboard = TensorBoard(self.directory.path / "tensorboard", self.state.step, MEND)

    @property
    def seconds(self) -> float:
        """Time spent on this run, earlier sittings included up to their last checkpoint."""
        return self._seconds_before + time.monotonic() - self._began

    def save(self) -> None:
        """Writes the checkpoint."""
        self.directory.save_checkpoint(
            {
                "search": self.state.state_dict(),
                "config": self.config.model_dump(),
                "data": _fingerprint(self.data),
                "seconds": self.seconds,
            }
        )

    def records(self) -> Iterator[Record]:
        """Runs the search to its end: metrics, checkpoints and at last the result are written as it goes."""
        self.save()  # so that there is one to go back to from the first step on
        last_save = time.monotonic()
        for record in self.search.run(self.state):
            self._log(record)
            # The end of a phase is dear: save it at once.
            if (
                record.kind in ("update", "generation")
                or time.monotonic() - last_save >= self.config.checkpoint_seconds
            ):
                self.save()
                last_save = time.monotonic()
            yield record
        self.save()
        result = self._result()
        best = torch.tensor(result["best"]["architecture"])
        self.directory.write_json("drawing.json", drawing(self.geometry, best))
        self.directory.write_json("result.json", result)

    def _log(self, record: Record) -> None:
        state, values = self.state, dict(record.values)
        if record.kind == "evaluation" or (record.kind == "train" and state.step % self.config.log_interval):
            return
        if record.kind == "update":
            values["flops"] = self.cost(torch.tensor(values["population"])).flops.tolist()
        epoch = state.step / self.steps_per_epoch
        line = {"kind": record.kind, "step": state.step, "epoch": round(epoch, 4), "seconds": round(self.seconds, 3)}
        self.directory.append_metrics({**line, **values})
        self.tensorboard.add(record.kind, state.step, values)

    def _result(self) -> dict[str, Any]:
        """`result.json`: of the architectures that were evaluated on the final weights."""
        state, config = self.state, self.config
        assert state.evolution is not None
        archive = state.evolution.archive
        population, scores = archive.population, archive.scores
        if state.compared is not None:
            new = archive.missing(state.compared.population)
            population = torch.cat([population, new])
            scores = torch.cat([scores, state.compared.lookup(new)])
        costs = self.cost(population)
        order = costs.flops.argsort(stable=True)
        front = order[pareto_front(scores, costs.flops)[order]].tolist()
        codes = self.space.encode(population)

        def entry(i: int) -> dict[str, Any]:
            return {
                "architecture": population[i].tolist(),
                "code": codes[i],
                "accuracy": float(scores[i]),
                "flops": int(costs.flops[i]),
                "params": int(costs.params[i]),
            }

        return {
            "space": config.space,
            "method": config.method,
            "sampler": config.sampler,
            "seed": config.seed,
            "best": entry(int(scores.argmax())),
            "pareto": [entry(i) for i in front],
            "evaluated": len(scores),
            "evaluations": [{"accuracy": float(s), "flops": int(f)} for s, f in zip(scores, costs.flops, strict=True)],
            "draws": self._draws(),
            "images": {"training": len(self.search.images), "skipped": list(self.data.skipped)},
            "seconds": round(self.seconds, 3),
            "version": vaenas.__version__,
        }

    def _draws(self) -> dict[str, Any] | None:
        """Mean score of line 13's draws and of as many uniform ones, on the same final weights."""
        state = self.state
        if state.compared is None or state.uniform is None or state.evolution is None:
            return None
        both = {
            "sampler": state.evolution.archive.lookup(state.evolution.seeds),
            "uniform": state.compared.lookup(state.uniform),
        }
        return {k: {"mean": float(v.mean()), "std": float(v.std()), "n": len(v)} for k, v in both.items()}


def _check_device(config: SearchConfig) -> None:
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: this machine has no CUDA device that PyTorch can use; choose --device cpu")


def _load_data(config: SearchConfig) -> ImageData:
    root = Path(config.data_root) if config.data_root else None
    return load(config.data, root, config.image_size, config.download, config.skip_bad_images)


def _fingerprint(data: ImageData) -> str:
    """Changes with the images that were found, their order, their classes and their colours."""
    facts = [data.train.classes, data.train.image_size, data.mean, data.std]
    return hashlib.sha256(json.dumps(facts).encode() + data.train.labels.numpy().tobytes()).hexdigest()


def _split(config: SearchConfig, data: ImageData, rng: Generator) -> tuple[Subset, Subset]:
    """Training and ranking images: disjoint, both of the training set; the test set stays untouched."""
    training, ranking = (Subset(data.train, rows) for rows in split(data.train.labels, config.ranking_images, rng))
    if len(training) < config.batch_size:
        raise UserError(
            f"--batch-size {config.batch_size}: only {len(training)} images are left to train on after "
            f"{config.ranking_images} for ranking; lower --batch-size or --ranking-images"
        )
    if len(training) < config.recalibration_images:
        raise UserError(
            f"--recalibration-images {config.recalibration_images}: there are only {len(training)} to train on"
        )
    # split sorts; what is taken from the front, for batch norm, must be a random sample
    return replace(training, rows=training.rows[torch.randperm(len(training), generator=rng)]), ranking


def _network_and_optimizer(
    config: SearchConfig, geometry: ShuffleNetGeometry
) -> tuple[ShuffleNet, torch.optim.Optimizer]:
    network = ShuffleNet(geometry)
    optimizer = torch.optim.SGD(
        network.parameters(), config.learning_rate, config.momentum, weight_decay=config.weight_decay
    )
    return network, optimizer


def _settings(config: SearchConfig, steps_per_epoch: int) -> OneShotSettings:
    """Epochs to iterations."""
    steps = config.epochs * steps_per_epoch
    interval = max(1, round(config.vae_interval * steps_per_epoch))
    if config.sampler in ("vae", "categorical") and interval > steps:
        raise UserError(
            f"--vae-interval {config.vae_interval:g}: the sampler would never learn in {config.epochs} epochs; lower "
            f"it, or raise --epochs"
        )
    increment = config.epsilon_limit / steps if config.epsilon_inc is None else config.epsilon_inc
    return OneShotSettings(
        steps=steps,
        vae_interval=interval,
        ranking_size=config.ranking_size,
        epsilon=linear_epsilon(increment, config.epsilon_limit),
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        label_smoothing=config.label_smoothing,
        clip_norm=config.clip_norm,
        evolution=EvolutionSettings(config.population, config.generations, config.top_k, config.mutation_prob),
    )


def make_sampler(config: SearchConfig, space: SearchSpace, rng: Generator) -> Sampler:
    """The sampler that the settings name."""
    match config.sampler:
        case "uniform":
            return UniformSampler(space)
        case "fair":
            return FairSampler(space)
        case "categorical":
            return CategoricalSampler(space, replace(CategoricalSettings(), keep_ratio=config.keep_ratio))
        case "vae":
            settings = replace(
                PAPER_LITERAL if config.vae == "literal" else RECOMMENDED,
                keep_ratio=config.keep_ratio,
                iterations=config.vae_iterations,
                kl_weight=config.kl_weight,
                free_bits=config.free_bits,
            )
            return VAESampler(space, rng, settings)
