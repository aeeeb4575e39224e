"""Files in the official format of NAS-Bench-101, written by other libraries than what reads them: TensorBoard's record
writer and Google's protobuf."""

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from tensorboard.summary.writer.record_writer import RecordWriter

NAMES = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")


def _messages() -> tuple[Any, Any]:
    """The classes ModelMetrics and EvaluationData."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="model_metrics.proto", package="nasbench", syntax="proto2")
    metrics, evaluation = file.message_type.add(name="ModelMetrics"), file.message_type.add(name="EvaluationData")
    metrics.field.add(
        name="evaluation_data", number=1, type=field.TYPE_MESSAGE, label=field.LABEL_REPEATED,
        type_name=".nasbench.EvaluationData",
    )  # fmt: skip
    metrics.field.add(name="trainable_parameters", number=2, type=field.TYPE_INT32, label=field.LABEL_OPTIONAL)
    metrics.field.add(name="total_time", number=3, type=field.TYPE_DOUBLE, label=field.LABEL_OPTIONAL)
    doubles = ("current_epoch", "training_time", "train_accuracy", "validation_accuracy", "test_accuracy")
    for number, name in enumerate(doubles, start=1):
        evaluation.field.add(name=name, number=number, type=field.TYPE_DOUBLE, label=field.LABEL_OPTIONAL)
    evaluation.field.add(name="checkpoint_path", number=6, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    both = [pool.FindMessageTypeByName(f"nasbench.{name}") for name in ("ModelMetrics", "EvaluationData")]
    return tuple(map(message_factory.GetMessageClass, both))  # pyright: ignore[reportReturnType]


ModelMetrics, EvaluationData = _messages()


@dataclass(frozen=True)
class Run:
    """One training run, with a cell as `cells.parquet` has it."""

    hash: str
    vertices: int
    edge_bits: int
    ops: str
    epochs: int
    validation: float
    test: float
    seconds: float
    params: int


def data(run: Run) -> bytes:
    """What stands in the run's record."""
    v = run.vertices
    digits = ["01"[run.edge_bits >> (x + y * (y - 1) // 2) & 1 if x < y else 0] for x in range(v) for y in range(v)]
    operations = ["input", *(NAMES[int(op)] for op in run.ops), "output"]
    evaluations = [
        EvaluationData(
            current_epoch=run.epochs * part, training_time=run.seconds * part, train_accuracy=0.1 + 0.8 * part,
            validation_accuracy=0.1 + (run.validation - 0.1) * part, test_accuracy=0.1 + (run.test - 0.1) * part,
            checkpoint_path="" if part else "start",
        )
        for part in (0.0, 0.5, 1.0)
    ]  # fmt: skip
    metrics = ModelMetrics(
        evaluation_data=evaluations, trainable_parameters=run.params, total_time=run.seconds * 1.1
    ).SerializeToString()
    record = [run.hash, run.epochs, "".join(digits), ",".join(operations), base64.b64encode(metrics).decode()]
    return json.dumps(record).encode()


def write(path: Path, records: Iterable[bytes]) -> Path:
    """A TFRecord file."""
    with path.open("wb") as file:
        writer = RecordWriter(file)
        for record in records:
            writer.write(record)
    return path
