"""One sitting at a run: what a search and a training do alike, from the settings to the last checkpoint."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Generator

import vaenas
from vaenas import machine, parallel
from vaenas.data.load import load
from vaenas.data.subsets import train_and_test
from vaenas.files import writing
from vaenas.networks import NetworkConfig
from vaenas.networks.space_file import digest_of
from vaenas.records import Record
from vaenas.runs.config import RunConfig
from vaenas.runs.directory import Kind, NewRun, RunDirectory, Stateful


class Session:
    """Device, random numbers, images, time and checkpoints of a run; nothing is written before `begin`.

    Raises `UserError` for whatever of the settings, data or directory cannot work.
    """

    def __init__(self, config: RunConfig, directory: RunDirectory, batch_size: int) -> None:
        if isinstance(directory, NewRun):
            directory.check()  # early; `create` makes sure
        self.config, self.directory = config, directory
        self._began, self._seconds_before, self._whole = time.monotonic(), 0.0, True
        self.fabric = parallel.make_fabric(config.machine.device, config.machine.precision, directory.threads)
        parallel.check_batch_size(batch_size)
        torch.manual_seed(config.seed)
        self.rng = Generator().manual_seed(config.seed)
        self.data = load(config.data)
        self.inputs = {f"the images of {config.data.source}": self.data.fingerprint(), **digest_of(config.space_file)}
        self.environment = machine.environment(self.fabric.device)

    def begin(self, kind: Kind, state: Stateful, files: Mapping[str, bytes]) -> None:
        """Makes the run's directory with `files`, or brings `state` to its last checkpoint.

        `inputs` holds the digests of all that the run reads by now; raises `UserError` where they are others.
        """
        self._state = state
        if isinstance(self.directory, NewRun):
            self.directory.create(kind, self.config, self.environment, files)
        else:
            self._seconds_before = self.directory.resume(self.config, self.inputs, self.environment, state)
        self.fabric.barrier()  # before the first writes a checkpoint again

    @property
    def seconds(self) -> float:
        """Time spent on this run, earlier sittings included up to their last checkpoint."""
        return self._seconds_before + time.monotonic() - self._began

    def save(self) -> None:
        """Writes the checkpoint if the last record left a whole state; of several processes the first does."""
        if self._whole:
            self.directory.save_checkpoint(self.config, self.inputs, self.seconds, self._state)

    def kept(
        self,
        records: Iterator[Record],
        log: Callable[[Record], None],
        whole: Callable[[Record], bool] = lambda record: True,
        at_once: Callable[[Record], bool] = lambda record: False,
    ) -> Iterator[Record]:
        """The records, each logged first; with a checkpoint before them, after them, and every so many seconds.

        The state after a record is saved only where it is `whole`, and `at_once` whatever the time.
        """
        self.directory.cut_metrics()
        self.save()  # so that there is one to go back to from the first step on
        last_save = time.monotonic()
        for record in records:
            self._whole = whole(record)
            if parallel.is_main():
                log(record)
            if self._whole and (at_once(record) or time.monotonic() - last_save >= self.config.checkpoint_seconds):
                self.save()
                last_save = time.monotonic()
            yield record
        self.save()

    def append_metrics(self, kind: str, step: int, epoch: float, values: dict[str, Any]) -> None:
        """A line of `metrics.jsonl`; at the system's once written, so that killing this process loses nothing."""
        line = {"kind": kind, "step": step, "epoch": round(epoch, 4), "seconds": round(self.seconds, 3), **values}
        with writing(self.directory.metrics_file), self.directory.metrics_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def facts(self, network: NetworkConfig, **images: int) -> dict[str, Any]:
        """What every `result.json` says; `images`: how many do what."""
        data, config = self.data, self.config
        told = {"test_split": train_and_test(data)[2], "skipped": [*data.skipped], "notes": [*data.notes]}
        return {
            "space": config.space, "network": asdict(network), "seed": config.seed, "images": {**images, **told},
            "seconds": round(self.seconds, 3), "version": vaenas.__version__, "environment": self.environment,
        }  # fmt: skip
