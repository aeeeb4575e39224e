"""A search as a run: builds the rooms from the settings, iterates, writes down, resumes."""

import hashlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from vaenas import parallel
from vaenas.constraints import Constraints
from vaenas.data.augment import Augment
from vaenas.data.cache import cache_dir
from vaenas.documents import read_json
from vaenas.errors import UserError
from vaenas.evaluation.supernet import SupernetEvaluator
from vaenas.evaluation.training_free import IMAGES, TrainingFree
from vaenas.networks.cost import AdditiveCost
from vaenas.networks.latency import LatencyTable, latency_table
from vaenas.records import Record, SearchResult
from vaenas.runs.config import SearchConfig
from vaenas.runs.directory import NewRun, RunDirectory
from vaenas.runs.saved_scores import SavedScores
from vaenas.runs.search_images import split_images
from vaenas.runs.session import Session
from vaenas.runs.settings import make
from vaenas.runs.tensorboard import TensorBoard
from vaenas.runs.truth import Truth
from vaenas.samplers.categorical import CategoricalSampler, MultinomialSampler
from vaenas.samplers.sampler import Sampler
from vaenas.samplers.uniform import FairSampler, UniformSampler
from vaenas.samplers.vae import VAESampler
from vaenas.search import gradient, one_shot
from vaenas.search.architecture_weights import ArchitectureWeights
from vaenas.search.evaluated_set import pareto_front, score
from vaenas.search.gradient import GradientSearch
from vaenas.search.one_shot import OneShot
from vaenas.search.search import BOUNDARIES, Found
from vaenas.search.supernet_training import SupernetTrainer
from vaenas.search.surrogate import Fuse, Fusion, unfused


class SearchRun:
    """One run. Iterate `records()`; stop at any record and `save()`, or be killed: it resumes to the same bits.

    The checkpoint is of a boundary (`BOUNDARIES`), and of the last one at each record that is not one itself: so
    a stop repeats at most one ranking or generation, whose scores come back from the file of `SavedScores`.

    The directory is made or changed only once everything else stands. Raises `UserError` for whatever of the settings,
    data or directory cannot work.
    """

    def __init__(self, config: SearchConfig, directory: RunDirectory) -> None:
        self.config, self.directory = config, directory
        self.session = Session(config, directory, config.supernet.batch_size)
        self.data, inputs = self.session.data, self.session.inputs
        self._bind_space()
        files = {}
        if self.latency is not None:
            files["latency.json"] = self.latency.to_json()
            inputs["latency.json"] = hashlib.sha256(files["latency.json"]).hexdigest()
        self.search = self._make_search()
        if self.truth is not None:
            inputs[f"the table {config.table.path}"] = self.truth.task.table.digest()
        self.session.begin("search", self.search, files)
        self.saved_scores.open(directory.path / "scores")
        self.begun_at = self.search.step

    @cached_property
    def tensorboard(self) -> TensorBoard:
        """Of the first process; begun with the first record."""
        return TensorBoard(self.directory.path / "tensorboard", self.begun_at)

    def _bind_space(self) -> None:
        """Space, cost, constraints and truth for these images."""
        config, train, bounds = self.config, self.data.train, self.config.constraints
        self.image_space = config.image_space(train.image_size, train.channels, len(train.classes))
        self.space, self.cost = config.search_space(self.image_space), self.image_space.cost
        self.latency, nanoseconds = None, None
        if bounds.max_latency is not None:
            assert isinstance(self.cost, AdditiveCost)  # as the settings have made sure
            self.latency, nanoseconds = self._latency(), round(1e6 * bounds.max_latency)
            self.cost = self.latency.added_to(self.cost)
        table = config.table.path
        self.truth = Truth.open(Path(table), config.space, config.seed, config.full_cells) if table else None
        self.constraints = Constraints(self.cost, bounds.max_flops, bounds.max_params, nanoseconds)
        # rare draws must not run out in mid-search
        needed = 4 * max(config.evolution.population, config.update.ranking_size)
        self.constraints.check(self.space, config.seed, needed)

    def _latency(self) -> LatencyTable:
        """The table of this device; a resumed run keeps the one that it began with, to the bit."""
        saved, fabric = self.directory.path / "latency.json", self.session.fabric
        if isinstance(self.directory, NewRun):
            made = latency_table(self.image_space, fabric.device, cache_dir()) if parallel.is_main() else None
            table = fabric.broadcast(made)
            assert table is not None
            return table
        try:
            return LatencyTable.from_json(saved.read_bytes(), self.image_space)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{saved}: cannot read the run's latencies ({error}): put it back, or begin a new run"
            ) from None

    def _make_search(self) -> OneShot | GradientSearch:
        """Images, supernet and algorithm; raises `UserError` if the sampler would never learn."""
        config, data, fabric, rng = self.config, self.data, self.session.fabric, self.session.rng
        self.images = images = split_images(config, data, rng)
        self.augment = augment = Augment(
            data.mean, data.std, config.supernet.padding, flip=True, cutout=config.supernet.cutout
        )
        supernet = self.image_space.supernet()
        self.trainer = trainer = SupernetTrainer(supernet, config.supernet, images.training, augment, fabric, rng)
        evaluate = SupernetEvaluator(
            supernet,
            recalibration=images.training.batches(images.recalibration),
            ranking=images.ranking.batches(len(images.ranking)),
            prepare=lambda pixels: augment.plain(pixels.to(fabric.device)),
            autocast=fabric.autocast,
            ranking_metric=config.ranking.of_supernet,
        )
        self.saved_scores = SavedScores(evaluate, trainer)
        parts: dict[str, Any] = {
            "space": self.space, "trainer": trainer, "evaluate": self.saved_scores, "rng": rng,
            "is_feasible": self.constraints.is_feasible, "constraints": str(self.constraints),
            "training": config.update, "surrogate": config.surrogate, "fuse": self._fuse(),
        }  # fmt: skip
        if images.validation is None:
            search = OneShot(**parts, sampler=self._sampler(None), evolution=config.evolution)
        else:
            rate, update = config.gradient.arch_learning_rate, config.gradient.arch_update
            w = ArchitectureWeights(self.space, rate, update, images.validation, trainer)
            search = GradientSearch(**parts, sampler=self._sampler(w), weights=w, draws=config.evolution.population)
        if search.learned and search.n_vae > trainer.steps:
            raise UserError(
                f"--update.vae-interval {config.update.vae_interval:g}: the sampler would never learn in "
                f"{config.supernet.epochs} epochs; lower it, or raise --epochs"
            )
        return search

    def untrained(self) -> TrainingFree:
        """Of an untrained supernet of the same size, on the first training images."""
        device = self.session.fabric.device
        with torch.random.fork_rng():
            torch.manual_seed(self.config.seed)
            untrained = self.image_space.supernet().to(device)
        images, labels = self.images.training.batch(torch.arange(min(IMAGES, len(self.images.training))))
        return TrainingFree(untrained, self.augment.plain(images.to(device)), labels.to(device))

    def _fuse(self) -> Fuse:
        if self.config.ranking.metric != "fused":
            return unfused
        untrained = self.untrained()
        return Fusion(self.space, lambda population: torch.stack([*untrained.features(population).values()], dim=1), 3)

    def _sampler(self, w: ArchitectureWeights | None) -> Sampler:
        if w is not None and self.config.mixes:
            return MultinomialSampler(self.space, w.values)
        match self.config.sampler:
            case "uniform":
                return UniformSampler(self.space)
            case "fair":
                return FairSampler(self.space)
            case "categorical":
                return CategoricalSampler(self.space, self.config.categorical)
            case "vae":
                return VAESampler(self.space, self.session.rng, self.config.vae)

    def save(self) -> None:
        """Writes the checkpoint if the last record stands at a boundary; else the one before it stays."""
        self.session.save()

    def records(self) -> Iterator[Record]:
        """Runs the search to its end: metrics, checkpoints and at last the result are written as it goes."""
        yield from self.session.kept(
            self._all_records(), self._log, lambda record: record.kind in BOUNDARIES, self._is_saved_at_once
        )
        if parallel.is_main():
            result = self._result()
            best = torch.tensor(result.best.architecture)
            self.directory.write_json("drawing.json", self.image_space.drawing(best))
            self.directory.write_json("result.json", result)

    def _all_records(self) -> Iterator[Record]:
        """Of the algorithm, then of what is scored to be compared with the table."""
        search = self.search
        found = gradient.run(search) if isinstance(search, GradientSearch) else one_shot.run(search)
        self.found: Found = yield from found
        if self.truth is not None:
            sample = self.truth.sample(self.config.table.sample)
            self.ranked = sample, (yield from score(sample, search.evaluate, "truth"))

    def _is_saved_at_once(self, boundary: Record) -> bool:
        """Whether something that takes long, or tells more than a step, comes before or after it."""
        step = self.search.step
        return boundary.kind != "train" or any(map(self.search.ends_interval, (step - 1, step)))

    def _log(self, record: Record) -> None:
        step, values = self.trainer.step_count, dict(record.values)
        if record.kind == "evaluation" or (record.kind == "train" and step % self.config.log_interval):
            return
        if record.kind == "update":
            values["flops"] = self.cost(torch.tensor(values["population"])).multiply_adds.tolist()
            if self.truth is not None:
                values["draws"] = self.truth.draws(self.search.sampler, step)
        if record.kind == "weights":
            values |= self._derived(torch.tensor(values["derived"]))
        self.session.append_metrics(record.kind, step, step / self.trainer.steps_per_epoch, values)
        self.tensorboard.add(record.kind, step, values)

    def _derived(self, architecture: torch.Tensor) -> dict[str, Any]:
        """What Sec. 4.3 says of derived networks (s,), in numbers: their size, and how much of them learns nothing."""
        costs, none = self.cost(architecture[None]), self.image_space.none
        edges = architecture >= 0 if none is None else architecture != none
        assert isinstance(self.cost, AdditiveCost)
        free = self.cost.tables["params"][torch.arange(len(architecture)), architecture] == 0
        share = float(free[edges].float().mean())
        return {"flops": int(costs.multiply_adds), "params": int(costs.params), "parameter_free": share}

    def _result(self) -> SearchResult:
        """`result.json`: of the architectures that were evaluated on the final weights."""
        config, found, images, truth = self.config, self.found, self.images, None
        if self.truth is not None:
            truth = self.truth.report(self.search, *self.ranked, found, self.directory.metrics_file)
        draws = {
            name: {"mean": float(of.mean()), "std": float(of.std()), "n": len(of)}
            for name, of in (found.draws or {}).items()
        }
        return SearchResult.model_validate(
            {
                **self.session.facts(
                    self.image_space.config, training=len(images.training), ranking=len(images.ranking)
                ),
                **self._architectures(),
                "method": config.method,
                "sampler": config.sampler_name,
                "ranking_metric": config.ranking.metric,
                "draws": draws or None,
                "truth": truth,
                "latency": self.latency and {"device": self.latency.device, "error": self.latency.error},
            }
        )

    def _architectures(self) -> dict[str, Any]:
        """The best, the Pareto front by ascending multiply-adds, and the scores of all."""
        found, costs = self.found, self.cost(self.found.population)
        columns = found.scores.tolist(), found.predicted.tolist(), costs.multiply_adds.tolist()
        names = "score", "predicted_score", "flops"
        every = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        codes = self.space.encode(found.population)

        def entry(i: int) -> dict[str, Any]:
            facts = {"architecture": found.population[i].tolist(), "code": codes[i], "params": int(costs.params[i])}
            latency = {} if costs.latency is None else {"latency_ms": int(costs.latency[i]) / 1e6}
            return {**every[i], **facts, **latency}

        order = costs.multiply_adds.argsort(stable=True)
        pareto = order[pareto_front(found.predicted, costs.multiply_adds)[order]].tolist()
        best, front = entry(found.best), [entry(i) for i in pareto]
        return {"best": best, "pareto": front, "evaluated": len(every), "evaluations": every}


def run_search(settings: Mapping[str, Any], output: str | Path) -> SearchResult:
    """A whole search, from Python as by `vaenas search`.

    Args:
        settings: nested as in the YAML file, or by their paths: {"space": "nasnet", "supernet.epochs": 20}.
        output: the run directory, which must not be there yet.

    Raises:
        UserError: whatever of the settings, data or directory cannot work.
    """
    run = SearchRun(make(SearchConfig, settings), NewRun(Path(output)))
    for _ in run.records():
        pass
    return read_json(SearchResult, run.directory.result_file)
