"""A search as a run: builds the rooms from the settings, iterates, writes down, resumes."""

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Generator

import vaenas
from vaenas import machine, parallel
from vaenas.constraints import Constraints, uniform_proposals
from vaenas.data import Augment
from vaenas.data.cache import cache_dir
from vaenas.errors import UserError
from vaenas.evaluation.supernet import SupernetEvaluator
from vaenas.networks.cost import AdditiveCost
from vaenas.networks.image_spaces import IMAGE_SPACES
from vaenas.networks.latency import LatencyTable, latency_table
from vaenas.runs.config import SearchConfig
from vaenas.runs.directory import HOW_TO_FIX, Checkpoint, NewRun, RunDirectory
from vaenas.runs.images import fingerprint, load_data, notes, skipped, train_and_test
from vaenas.runs.saved_scores import SavedScores
from vaenas.runs.search_parts import make_search, search_space, settings_of, split_images
from vaenas.runs.search_result import architectures
from vaenas.runs.tensorboard import TensorBoard
from vaenas.runs.truth import Truth, read_updates
from vaenas.search import gradient, one_shot
from vaenas.search.evaluated_set import score
from vaenas.search.gradient import GradientSearch
from vaenas.search.record import Record
from vaenas.search.search import BOUNDARIES, Found
from vaenas.search.supernet_training import SupernetTrainer, SupernetTraining


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
        if isinstance(directory, NewRun):
            directory.check()  # early; `create` makes sure
        self._began, self._seconds_before, self._whole = time.monotonic(), 0.0, True
        fabric = parallel.make_fabric(config.device, config.precision, directory.threads)
        parallel.check_batch_size(config.batch_size)
        torch.manual_seed(config.seed)
        rng = Generator().manual_seed(config.seed)
        self.environment = machine.environment(fabric.device)
        self.data = load_data(config)
        self.inputs = {f"the images of {config.data}": fingerprint(self.data)}
        files = self._bind_space(fabric, directory)
        self._build(fabric, rng)
        if self.truth is not None:
            self.inputs[f"the table {config.table}"] = self.truth.task.table.digest()
        if isinstance(directory, NewRun):
            self.directory = RunDirectory.create(directory, "search", config, self.environment, files)
        else:
            self.directory = directory
            self._go_on()
        self.saved_scores.open(self.directory.path / "scores")
        fabric.barrier()  # before the first writes a checkpoint again
        if parallel.is_main():
            self.tensorboard = TensorBoard(self.directory.path / "tensorboard", self.search.step, HOW_TO_FIX)

    def _bind_space(self, fabric: Fabric, directory: NewRun | RunDirectory) -> dict[str, bytes]:
        """Space, cost, constraints and truth for these images; gives the files that a new run begins with."""
        config, train, files = self.config, self.data.train, dict[str, bytes]()
        assert config.width is not None
        assert config.layers is not None
        self.image_space = IMAGE_SPACES[config.space]
        self.geometry = self.image_space.geometry(
            train.image_size, train.channels, len(train.classes), config.width, config.layers
        )
        self.space, self.cost = search_space(config, self.geometry), self.image_space.cost(self.geometry)
        self.latency: LatencyTable | None = None
        if config.max_latency is not None:
            saved = directory.path / "latency.json" if isinstance(directory, RunDirectory) else None
            self.latency = self._latency(fabric, saved)
            assert isinstance(self.cost, AdditiveCost)  # as the settings have made sure
            self.cost = self.latency.added_to(self.cost)
            files["latency.json"] = json.dumps(self.latency.to_json()).encode()
            self.inputs["latency.json"] = hashlib.sha256(files["latency.json"]).hexdigest()
        self.truth = (
            Truth.open(Path(config.table), config.space, config.seed, config.full_cells) if config.table else None
        )
        nanoseconds = None if config.max_latency is None else round(1e6 * config.max_latency)
        self.constraints = Constraints(self.cost, config.max_flops, config.max_params, nanoseconds)
        needed = 4 * max(config.population, config.ranking_size)  # rare draws must not run out in mid-search
        self.constraints.check(self.space, uniform_proposals(self.space, config.seed), needed)
        return files

    def _build(self, fabric: Fabric, rng: Generator) -> None:
        """Images, supernet and algorithm."""
        config, data = self.config, self.data
        self.images = images = split_images(config, data, rng)
        augment = Augment(data.mean, data.std, config.padding, flip=True, cutout=config.cutout)
        supernet = self.image_space.network(self.geometry, None)
        settings = settings_of(SupernetTraining, config)
        self.trainer = SupernetTrainer(supernet, settings, images.training, augment, fabric, rng)
        evaluate = SupernetEvaluator(
            supernet,
            recalibration=images.training.batches(images.recalibration),
            ranking=images.ranking.batches(len(images.ranking)),
            prepare=lambda pixels: augment.plain(pixels.to(fabric.device)),
            autocast=fabric.autocast,
            ranking_metric=config.ranking_metric,
        )
        self.saved_scores = SavedScores(evaluate, self.trainer)
        self.search = make_search(
            config, self.space, self.constraints, self.trainer, self.saved_scores, images.validation, rng
        )

    def _go_on(self) -> None:
        """Continues from the checkpoint of the directory, if there is one."""
        self.directory.warn_of_changes(self.environment)
        checkpoint = self.directory.resume(self.config, self.inputs)
        if checkpoint is not None:
            self.directory.restore(checkpoint, self.search)
            self._seconds_before = checkpoint.seconds

    def _latency(self, fabric: Fabric, saved: Path | None) -> LatencyTable:
        """The table of this device; a resumed run keeps the one that it began with, to the bit."""
        if saved is None:
            arguments = self.config.space, self.geometry, fabric.device, cache_dir()
            table = fabric.broadcast(latency_table(*arguments) if parallel.is_main() else None)
            assert table is not None
            return table
        try:
            return LatencyTable.from_json(saved.read_bytes(), self.config.space, self.geometry)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{saved}: cannot read the run's latencies ({error}): put it back, or begin a new run"
            ) from None

    @property
    def seconds(self) -> float:
        """Time spent on this run, earlier sittings included up to their last checkpoint."""
        return self._seconds_before + time.monotonic() - self._began

    def save(self) -> None:
        """Writes the checkpoint if the last record stands at a boundary; else the one before it stays.

        Of several processes the first does.
        """
        if not (parallel.is_main() and self._whole):
            return
        self.directory.save_checkpoint(
            Checkpoint(
                config=self.config.model_dump(),
                inputs=self.inputs,
                seconds=self.seconds,
                state=self.search.state_dict(),
            )
        )

    def records(self) -> Iterator[Record]:
        """Runs the search to its end: metrics, checkpoints and at last the result are written as it goes."""
        self.save()  # so that there is one to go back to from the first step on
        last_save = time.monotonic()
        for record in self._all_records():
            self._whole = record.kind in BOUNDARIES
            if parallel.is_main():
                self._log(record)
            if self._whole and (
                self._is_saved_at_once(record) or time.monotonic() - last_save >= self.config.checkpoint_seconds
            ):
                self.save()
                last_save = time.monotonic()
            yield record
        if not parallel.is_main():
            return
        result = self._result()
        best = torch.tensor(result["best"]["architecture"])
        self.directory.write_json("drawing.json", self.image_space.drawing(self.geometry, best))
        self.directory.write_json("result.json", result)

    def _all_records(self) -> Iterator[Record]:
        """Of the algorithm, then of what is scored to be compared with the table."""
        search = self.search
        found = gradient.run(search) if isinstance(search, GradientSearch) else one_shot.run(search)
        self.found: Found = yield from found
        if self.truth is not None:
            sample = self.truth.sample(self.config.table_sample)
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
            values["flops"] = self.cost(torch.tensor(values["population"])).flops.tolist()
            if self.truth is not None:
                values["draws"] = self.truth.draws(self.search.sampler, step)
        if record.kind == "weights":
            values |= self._derived(torch.tensor(values["derived"]))
        epoch = round(step / self.trainer.steps_per_epoch, 4)
        line = {"kind": record.kind, "step": step, "epoch": epoch, "seconds": round(self.seconds, 3)}
        self.directory.append_metrics({**line, **values})
        self.tensorboard.add(record.kind, step, values)

    def _derived(self, architecture: torch.Tensor) -> dict[str, Any]:
        """What Sec. 4.3 says of derived networks (s,), in numbers: their size, and how much of them learns nothing."""
        costs = self.cost(architecture[None])
        edges = architecture != self.image_space.none if self.image_space.none is not None else architecture >= 0
        assert isinstance(self.cost, AdditiveCost)
        free = self.cost.table[1, torch.arange(len(architecture)), architecture] == 0
        share = float(free[edges].float().mean())
        return {"flops": int(costs.flops), "params": int(costs.params), "parameter_free": share}

    def _result(self) -> dict[str, Any]:
        """`result.json`: of the architectures that were evaluated on the final weights."""
        config, found, truth = self.config, self.found, None
        if self.truth is not None:
            updates = read_updates(self.directory.metrics_file)
            truth = self.truth.report(self.search.sampler, self.ranked, found, updates)
        sizes = ("image_size", "image_channels", "classes", "width", "layers")
        return {
            "space": config.space,
            "method": config.method,
            "sampler": config.sampler,
            "seed": config.seed,
            "ranking_metric": config.ranking_metric,
            "geometry": {name: getattr(self.geometry, name) for name in sizes},
            **architectures(found, self.space, self.cost, self.latency is not None),
            "truth": truth,
            "latency": self.latency and {"device": self.latency.device, "error": self.latency.error},
            "images": {
                "training": len(self.images.training),
                "ranking": len(self.images.ranking),
                "test_split": train_and_test(self.data)[2],
                "skipped": skipped(self.data),
                "notes": notes(self.data),
            },
            "seconds": round(self.seconds, 3),
            "version": vaenas.__version__,
            "environment": self.environment,
        }
