"""A search as a run: builds the rooms from the settings, iterates, writes down, resumes."""

import hashlib
import json
import time
from collections.abc import Iterator
from itertools import chain
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
from vaenas.records import Record
from vaenas.runs.config import SearchConfig
from vaenas.runs.directory import NewRun, RunDirectory
from vaenas.runs.images import fingerprint, load_data, notes, skipped, train_and_test
from vaenas.runs.search_parts import (
    count_steps,
    gradient_settings,
    make_optimizer,
    make_sampler,
    one_shot_settings,
    search_space,
    split_images,
)
from vaenas.runs.tensorboard import TensorBoard
from vaenas.runs.truth import Truth, read_updates
from vaenas.search.evaluated_set import EvaluatedSet, pareto_front, score
from vaenas.search.gradient import GradientSearch, GradientState, architecture_weights
from vaenas.search.one_shot import OneShot, OneShotState


class SearchRun:
    """One run. Iterate `records()`; stop at any record and `save()`, or be killed: it resumes to the same bits."""

    def __init__(self, config: SearchConfig, directory: NewRun | RunDirectory) -> None:
        """Loads the data, checks the limits and builds everything; only then is the directory made or changed.

        Args:
            directory: one that is still to be made, or that of the run to go on with (`RunDirectory.open`).

        Raises:
            UserError: whatever of the settings, data or directory cannot work.
        """
        self.config = config
        if isinstance(directory, NewRun):
            directory.check()  # early; `create` makes sure
        self._began, self._seconds_before = time.monotonic(), 0.0
        fabric = parallel.make_fabric(config.device, config.precision, directory.threads)
        parallel.check_batch_size(config.batch_size)
        torch.manual_seed(config.seed)
        rng = Generator().manual_seed(config.seed)

        self.data = load_data(config)
        self.inputs = {f"the images of {config.data}": fingerprint(self.data)}
        self.image_space = IMAGE_SPACES[config.space]
        assert config.width is not None
        assert config.layers is not None
        train = self.data.train
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
        self.truth = (
            Truth.open(Path(config.table), config.space, config.seed, config.full_cells) if config.table else None
        )
        self.ranked = EvaluatedSet(self.space.slots)  # for the truth: a sample on the final weights
        self.constraints = Constraints(
            self.cost, config.max_flops, config.max_params,
            None if config.max_latency is None else round(1e6 * config.max_latency),
        )  # fmt: skip
        needed = 4 * max(config.population, config.ranking_size)  # rare draws must not run out in mid-search
        self.constraints.check(self.space, uniform_proposals(self.space, config.seed), needed)

        self.images = images = split_images(config, self.data, rng)
        self.steps_per_epoch = len(images.training) // config.batch_size
        supernet = self.image_space.network(self.geometry, None)
        parallel.synchronize(supernet)
        network, optimizer = fabric.setup(supernet, make_optimizer(config, supernet))
        augment = Augment(self.data.mean, self.data.std, config.padding, flip=True, cutout=config.cutout)
        evaluate = SupernetEvaluator(
            supernet,
            recalibration=images.training.batches(images.recalibration),
            ranking=images.ranking.batches(len(images.ranking)),
            prepare=lambda pixels: augment.plain(pixels.to(fabric.device)),
            autocast=fabric.autocast,
            ranking_metric=config.ranking_metric,
        )
        steps = count_steps(config, self.steps_per_epoch)
        constraints = self.constraints.is_feasible, str(self.constraints)
        if images.validation is None:
            search = OneShot(
                self.space, one_shot_settings(config, steps), fabric, images.training, augment, evaluate, *constraints
            )  # fmt: skip
            state = OneShotState(network, optimizer, make_sampler(config, self.space, rng), rng)
            self._iterator = search.run(state)
        else:
            weights = torch.nn.Parameter(architecture_weights(self.space).to(fabric.device))
            search = GradientSearch(
                self.space, gradient_settings(config, steps), fabric, images.training, images.validation, augment,
                evaluate, *constraints,
            )  # fmt: skip
            state = GradientState(
                network, optimizer, make_sampler(config, self.space, rng, weights), rng, weights,
                torch.optim.Adam([weights], config.weights_learning_rate, betas=(0.5, 0.999)),  # betas as in DARTS
            )  # fmt: skip
            self._iterator = search.run(state)
        self.search: OneShot | GradientSearch = search
        self.state: OneShotState | GradientState = state

        self.environment = machine.environment(fabric.device)
        if self.truth is not None:
            self.inputs[f"the table {config.table}"] = self.truth.task.table.digest()
        files: dict[str, bytes] = {}
        if self.latency is not None:
            files["latency.json"] = json.dumps(self.latency.to_json()).encode()
            self.inputs["latency.json"] = hashlib.sha256(files["latency.json"]).hexdigest()
        if isinstance(directory, NewRun):
            self.directory = RunDirectory.create(directory, "search", config, self.environment, files)
        else:
            self.directory = directory
            self._seconds_before = directory.resume(config, self.inputs, self.environment, self)
        fabric.barrier()  # before the first writes a checkpoint again
        if parallel.is_main():
            self.tensorboard = TensorBoard(self.directory.path / "tensorboard", self.state.step)

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

    def state_dict(self) -> dict[str, Any]:
        """The algorithm's, and what is ranked for the table."""
        return {"search": self.state.state_dict(), "ranked": self.ranked.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse."""
        self.state.load_state_dict(state["search"])
        self.ranked = EvaluatedSet.from_state_dict(state["ranked"])

    def save(self) -> None:
        """Writes the checkpoint; of several processes the first does."""
        self.directory.save_checkpoint(self.config, self.inputs, self.seconds, self)

    def records(self) -> Iterator[Record]:
        """Runs the search to its end: metrics, checkpoints and at last the result are written as it goes."""
        self.save()  # so that there is one to go back to from the first step on
        last_save = time.monotonic()
        for record in chain(self._iterator, self._rank_for_truth()):
            if not parallel.is_main():
                yield record
                continue
            self._log(record)
            # The end of a phase is dear: save it at once.
            if (
                record.kind in ("update", "generation")
                or time.monotonic() - last_save >= self.config.checkpoint_seconds
            ):
                self.save()
                last_save = time.monotonic()
            yield record
        if not parallel.is_main():
            return
        self.save()
        result = self._result()
        best = torch.tensor(result["best"]["architecture"])
        self.directory.write_json("drawing.json", self.image_space.drawing(self.geometry, best))
        self.directory.write_json("result.json", result)

    def _rank_for_truth(self) -> Iterator[Record]:
        """Scores the sample that is compared with the table."""
        if self.truth is None:
            return
        for done, total in score(self.truth.sample(self.config.table_sample), self.ranked, self.search.evaluate):
            yield Record("evaluation", {"of": "truth", "done": done, "total": total})

    def _log(self, record: Record) -> None:
        state, values = self.state, dict(record.values)
        if record.kind == "evaluation" or (record.kind == "train" and state.step % self.config.log_interval):
            return
        if record.kind == "update":
            values["flops"] = self.cost(torch.tensor(values["population"])).flops.tolist()
            if self.truth is not None:
                values["draws"] = self.truth.draws(state.sampler, state.step)
        if record.kind == "weights":
            values |= self._derived(torch.tensor(values["derived"]))
        epoch = state.step / self.steps_per_epoch
        line = {"kind": record.kind, "step": state.step, "epoch": round(epoch, 4), "seconds": round(self.seconds, 3)}
        self.directory.append_metrics({**line, **values})
        self.tensorboard.add(record.kind, state.step, values)

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
        state, config = self.state, self.config
        assert state.evaluated is not None
        population, scores = state.evaluated.population, state.evaluated.scores
        if state.compared is not None:
            new = state.evaluated.missing(state.compared.population)
            population = torch.cat([population, new])
            scores = torch.cat([scores, state.compared.lookup(new)])
        predicted = state.predicted_score(self.space, population, scores)
        costs, totals = self.cost(population), self.cost.totals(population)
        order = costs.flops.argsort(stable=True)
        front = order[pareto_front(predicted, costs.flops)[order]].tolist()
        codes = self.space.encode(population)

        def entry(i: int) -> dict[str, Any]:
            facts = {
                "architecture": population[i].tolist(),
                "code": codes[i],
                "score": float(scores[i]),
                "predicted_score": float(predicted[i]),
                "flops": int(costs.flops[i]),
                "params": int(costs.params[i]),
            }
            return facts if self.latency is None else {**facts, "latency_ms": int(totals[2, i]) / 1e6}

        return {
            "kind": "search",
            "space": config.space,
            "method": config.method,
            "sampler": config.sampler,
            "seed": config.seed,
            "ranking_metric": config.ranking_metric,
            "network": {
                name: getattr(self.geometry, name)
                for name in ("image_size", "image_channels", "classes", "width", "layers")
            },
            "best": entry(state.answer(population, predicted)),
            "pareto": [entry(i) for i in front],
            "evaluated": len(scores),
            "evaluations": [
                {"score": float(s), "predicted_score": float(w), "flops": int(f)}
                for s, w, f in zip(scores, predicted, costs.flops, strict=True)
            ],
            "draws": self._draws(),
            "truth": self.truth
            and self.truth.report(
                state.sampler, self.ranked, (population, predicted), read_updates(self.directory.metrics_file)
            ),
            "latency": self.latency and {"device": self.latency.device, "error": self.latency.error},
            "images": {
                "training": len(self.search.images),
                "ranking": len(self.images.ranking),
                "test_split": train_and_test(self.data)[2],
                "skipped": skipped(self.data),
                "notes": notes(self.data),
            },
            "seconds": round(self.seconds, 3),
            "version": vaenas.__version__,
            "environment": self.environment,
        }

    def _draws(self) -> dict[str, Any] | None:
        """Mean score of line 13's draws and of as many uniform ones, on the same final weights."""
        state = self.state
        if state.compared is None or state.uniform is None or state.evaluated is None or state.drawn is None:
            return None
        both = {
            "sampler": state.evaluated.lookup(state.drawn),
            "uniform": state.compared.lookup(state.uniform),
        }
        return {k: {"mean": float(v.mean()), "std": float(v.std()), "n": len(v)} for k, v in both.items()}
