"""One sitting at a run: what a search and a training do alike, from the settings to the last checkpoint."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Generator

from vaenas import machine, parallel
from vaenas.data.load import load
from vaenas.networks.space_file import digest_of
from vaenas.records import Record
from vaenas.runs.config import RunConfig
from vaenas.runs.directory import Kind, NewRun, RunDirectory, Stateful


class Session:
    """Device, random numbers and images of a run; later its directory, time and checkpoints.

    Args:
        config: the run's settings.
        place: a directory that is still to be made, or that of the run to go on with (`RunDirectory.open`). Nothing in
            it is made or changed before `begin`.
        batch_size: is divided among processes.

    Raises:
        UserError: whatever of the settings, data or directory cannot work.
    """

    directory: RunDirectory

    def __init__(self, config: RunConfig, place: NewRun | RunDirectory, batch_size: int) -> None:
        if isinstance(place, NewRun):
            place.check()  # early; `create` makes sure
        self.config, self._place = config, place
        self._began, self._seconds_before, self._whole = time.monotonic(), 0.0, True
        self.fabric = parallel.make_fabric(config.machine.device, config.machine.precision, place.threads)
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
        if isinstance(self._place, NewRun):
            self.directory = RunDirectory.create(self._place, kind, self.config, self.environment, files)
        else:
            self.directory = self._place
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

        Args:
            whole: whether the state after a record can be saved; where not, the checkpoint before stays.
            at_once: whether it is saved after a record, whatever the time.
        """
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
        """A line of `metrics.jsonl`."""
        line = {"kind": kind, "step": step, "epoch": round(epoch, 4), "seconds": round(self.seconds, 3)}
        self.directory.append_metrics({**line, **values})
