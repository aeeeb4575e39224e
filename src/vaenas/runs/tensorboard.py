"""The run's numbers for TensorBoard."""

import os
import time
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # pyright: ignore  # generated at import
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore  # likewise
from tensorboard.summary.writer.record_writer import RecordWriter

from vaenas.files import writing


class TensorBoard:
    """Scalars of every record; a resumed run purges what came after its checkpoint.

    Written at once, not by the thread of torch's `SummaryWriter`: that one keeps numbers back for two minutes, which
    a kill would lose, and a full disk ends it with a traceback.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.path = folder / f"events.out.tfevents.{time.time():.6f}.{os.getpid()}"
        with writing(folder):
            folder.mkdir(exist_ok=True)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        self._write(Event(wall_time=time.time(), step=step + 1, session_log=SessionLog(status=SessionLog.START)))

    def add(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Numbers as they are, under "kind/name"; of lists of scores the mean."""
        step = values.get("generation", values.get("round", step))
        scalars = {name: value for name, value in values.items() if isinstance(value, (int, float))}
        for name in (name for name in ("scores", "sampler", "uniform", "entropy_of_weights") if name in values):
            scalars[f"mean_{name}"] = sum(values[name]) / len(values[name])
        entries = [Summary.Value(tag=f"{kind}/{name}", simple_value=value) for name, value in scalars.items()]
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=entries)))

    def _write(self, event: Event) -> None:
        with writing(self.path), self.path.open("ab") as file:
            RecordWriter(file).write(event.SerializeToString())
