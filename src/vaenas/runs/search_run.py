"""A search as a run: builds the rooms from the settings, iterates, writes down, resumes."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import vaenas
from vaenas import parallel
from vaenas.constraints import Constraints, uniform_proposals
from vaenas.data.augment import Augment
from vaenas.data.cache import cache_dir
from vaenas.data.subsets import train_and_test
from vaenas.documents import read_json
from vaenas.errors import UserError
from vaenas.evaluation.supernet import SupernetEvaluator
from vaenas.networks.cost import AdditiveCost
from vaenas.networks.latency import LatencyTable, latency_table
from vaenas.records import Record, SearchResult
from vaenas.runs.config import SearchConfig
from vaenas.runs.directory import NewRun, RunDirectory
from vaenas.runs.saved_scores import SavedScores
from vaenas.runs.search_parts import make_search, split_images
from vaenas.runs.search_result import architectures
from vaenas.runs.session import Session
from vaenas.runs.settings import make
from vaenas.runs.tensorboard import TensorBoard
from vaenas.runs.truth import Truth, read_updates
from vaenas.search import gradient, one_shot
from vaenas.search.evaluated_set import score
from vaenas.search.gradient import GradientSearch
from vaenas.search.search import BOUNDARIES, Found
from vaenas.search.supernet_training import SupernetTrainer


class SearchRun:
    """One run. Iterate `records()`; stop at any record and `save()`, or be killed: it resumes to the same bits.

    The checkpoint is of a boundary (`BOUNDARIES`), and of the last one at each record that is not one itself: so
    a stop repeats at most one ranking or generation, whose scores come back from the file of `SavedScores`.
    """

    def __init__(self, config: SearchConfig, directory: NewRun | RunDirectory) -> None:
        """Loads the data, checks the constraints and builds everything; only then is the directory made or changed.

        Args:
            directory: one that is still to be made, or that of the run to go on with (`RunDirectory.open`).

        Raises:
            UserError: whatever of the settings, data or directory cannot work.
        """
        self.config = config
        self.session = session = Session(config, directory, config.supernet.batch_size)
        self.data = session.data
        files = self._bind_space(directory)
        self._build()
        if self.truth is not None:
            session.inputs[f"the table {config.table.path}"] = self.truth.task.table.digest()
        session.begin("search", self.search, files)
        self.directory = session.directory
        self.saved_scores.open(self.directory.path / "scores")
        if parallel.is_main():
            self.tensorboard = TensorBoard(self.directory.path / "tensorboard", self.search.step)

    def _bind_space(self, directory: NewRun | RunDirectory) -> dict[str, bytes]:
        """Space, cost, constraints and truth for these images; gives the files that a new run begins with."""
        config, train, files = self.config, self.data.train, dict[str, bytes]()
        self.image_space = config.image_space(train.image_size, train.channels, len(train.classes))
        self.space, self.cost = config.search_space(self.image_space), self.image_space.cost
        bounds, table = config.constraints, config.table.path
        self.latency: LatencyTable | None = None
        if bounds.max_latency is not None:
            saved = directory.path / "latency.json" if isinstance(directory, RunDirectory) else None
            self.latency = self._latency(saved)
            assert isinstance(self.cost, AdditiveCost)  # as the settings have made sure
            self.cost = self.latency.added_to(self.cost)
            files["latency.json"] = self.latency.to_json()
            self.session.inputs["latency.json"] = hashlib.sha256(files["latency.json"]).hexdigest()
        self.truth = Truth.open(Path(table), config.space, config.seed, config.full_cells) if table else None
        nanoseconds = None if bounds.max_latency is None else round(1e6 * bounds.max_latency)
        self.constraints = Constraints(self.cost, bounds.max_flops, bounds.max_params, nanoseconds)
        # rare draws must not run out in mid-search
        needed = 4 * max(config.evolution.population, config.update.ranking_size)
        self.constraints.check(self.space, uniform_proposals(self.space, config.seed), needed)
        return files

    def _build(self) -> None:
        """Images, supernet and algorithm."""
        config, data, fabric, rng = self.config, self.data, self.session.fabric, self.session.rng
        self.images = images = split_images(config, data, rng)
        augment = Augment(data.mean, data.std, config.supernet.padding, flip=True, cutout=config.supernet.cutout)
        supernet = self.image_space.supernet()
        self.trainer = SupernetTrainer(supernet, config.supernet, images.training, augment, fabric, rng)
        evaluate = SupernetEvaluator(
            supernet,
            recalibration=images.training.batches(images.recalibration),
            ranking=images.ranking.batches(len(images.ranking)),
            prepare=lambda pixels: augment.plain(pixels.to(fabric.device)),
            autocast=fabric.autocast,
            ranking_metric=config.ranking.metric,
        )
        self.saved_scores = SavedScores(evaluate, self.trainer)
        self.search = make_search(
            config, self.space, self.constraints, self.trainer, self.saved_scores, images.validation, rng
        )

    def _latency(self, saved: Path | None) -> LatencyTable:
        """The table of this device; a resumed run keeps the one that it began with, to the bit."""
        if saved is None:
            fabric = self.session.fabric
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

    def save(self) -> None:
        """Writes the checkpoint if the last record stands at a boundary; else the one before it stays."""
        self.session.save()

    def records(self) -> Iterator[Record]:
        """Runs the search to its end: metrics, checkpoints and at last the result are written as it goes."""
        yield from self.session.kept(
            self._all_records(), self._log, lambda record: record.kind in BOUNDARIES, self._is_saved_at_once
        )
        if not parallel.is_main():
            return
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
        costs = self.cost(architecture[None])
        edges = architecture != self.image_space.none if self.image_space.none is not None else architecture >= 0
        assert isinstance(self.cost, AdditiveCost)
        free = self.cost.tables["params"][torch.arange(len(architecture)), architecture] == 0
        share = float(free[edges].float().mean())
        return {"flops": int(costs.multiply_adds), "params": int(costs.params), "parameter_free": share}

    def _result(self) -> SearchResult:
        """`result.json`: of the architectures that were evaluated on the final weights."""
        config, found, truth = self.config, self.found, None
        if self.truth is not None:
            updates = read_updates(self.directory.metrics_file)
            truth = self.truth.report(self.search.sampler, self.ranked, found, updates)
        return SearchResult.model_validate(
            {
                "space": config.space,
                "method": config.method,
                "sampler": config.sampler_name,
                "seed": config.seed,
                "ranking_metric": config.ranking.metric,
                "network": asdict(self.image_space.config),
                **architectures(found, self.space, self.cost),
                "truth": truth,
                "latency": self.latency and {"device": self.latency.device, "error": self.latency.error},
                "images": {
                    "training": len(self.images.training),
                    "ranking": len(self.images.ranking),
                    "test_split": train_and_test(self.data)[2],
                    "skipped": [*self.data.skipped],
                    "notes": [*self.data.notes],
                },
                "seconds": round(self.session.seconds, 3),
                "version": vaenas.__version__,
                "environment": self.session.environment,
            }
        )


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
