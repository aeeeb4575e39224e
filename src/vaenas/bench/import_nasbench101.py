"""NAS-Bench-101 (Ying et al. 2019) to tables: the official TFRecord files, and cells with labels in Parquet."""

import binascii
import math
import re
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from jaxtyping import Float, Int64, UInt8
from pydantic import Field
from torch import Tensor

from vaenas.bench.columns import columns
from vaenas.bench.tfrecord import TFRecord, read_records
from vaenas.documents import from_json, short
from vaenas.errors import UserError
from vaenas.evaluation.table_file import LONGEST_TRAINING, MOST_PARAMS
from vaenas.evaluation.tabular import TabularBenchmark
from vaenas.spaces import cells
from vaenas.spaces.nasbench101 import NASBench101Space

CELLS = 423_624
BUDGETS = (4, 12, 36, 108)
_MAX_RECORD = 1 << 14  # bytes; the official ones have some 400
_HASHES_CHECKED = 1000
_BATCH = 1 << 15  # rows read at a time


_HASH = "^[0-9a-f]{32}$"
_Content = tuple[
    Annotated[str, Field(pattern=_HASH)], Literal[BUDGETS], Annotated[str, Field(pattern="^[01]*$")], str, str
]  # pyright: ignore[reportInvalidTypeForm]  # Literal of a tuple's values


class _Observation(NamedTuple):
    """One training run of one cell."""

    record: TFRecord
    hash: bytes
    budget: int  # an index into `BUDGETS`
    adjacency: str
    operations: str
    values: tuple[float, float, float]  # validation and test accuracy, seconds of training
    params: int


def from_tfrecord(path: Path) -> TabularBenchmark:
    """The table in `nasbench_only108.tfrecord` or `nasbench_full.tfrecord`.

    Each record is one training run, three for each cell and number of epochs, as a JSON list of

        the module hash: 32 hexadecimal digits
        the epochs: 4, 12, 36 or 108
        the adjacency matrix of v vertices: v * v digits, row by row
        the vertices' operations with commas between: "input,conv3x3-bn-relu,...,output"
        the metrics: base64 of a protobuf message

    with the messages

        ModelMetrics    1 repeated EvaluationData (at the start, half-way and at the end), 2 int32 parameters, 3 double
        EvaluationData  doubles: 1 epoch, 2 training seconds, 3 training, 4 validation and 5 test accuracy; 6 string

    of which the last evaluation counts. Records are read in one go from first to last; memory is bounded by the table's
    size, not by the file's. The module hashes of 1,000 cells, evenly spread, are computed anew.

    Raises:
        UserError: names the record that is damaged or no record of NAS-Bench-101, and where it begins.
    """
    index: dict[bytes, int] = {}  # of each cell, by its hash
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    populations, params = [], []
    records = read_records(path, _MAX_RECORD)
    while batch := [_observation(path, record) for record in islice(records, _BATCH)]:
        new: list[_Observation] = []
        for seen in batch:
            if seen.hash not in index:
                index[seen.hash] = len(index)
                new.append(seen)
        populations.append(_population(path, new).to(torch.uint8))
        params += [seen.params for seen in new]
        parts.append(
            (
                np.array([index[seen.hash] for seen in batch], dtype=np.int32),
                np.array([seen.budget for seen in batch], dtype=np.int32),
                np.array([seen.values for seen in batch], dtype=np.float32),
            )
        )
    if not index:
        raise UserError(f"{path}: no records; the official files have {CELLS:,} cells: get it anew")
    rows, budgets, values = (np.concatenate(part) for part in zip(*parts, strict=True))
    del parts
    present, budgets = np.unique(budgets, return_inverse=True)
    validation, test, seconds = columns(rows, budgets.astype(np.int32), values)
    return _table(
        torch.cat(populations).long(), tuple(BUDGETS[b] for b in present), validation, path,
        torch.from_numpy(np.frombuffer(b"".join(index), dtype=np.uint8).reshape(-1, 16).copy()), torch.tensor(params),
        test=test, seconds=seconds,
    )  # fmt: skip


def _model_metrics() -> Any:
    """The protobuf class ModelMetrics with the fields that are used."""
    of = FieldDescriptorProto
    file = FileDescriptorProto(name="model_metrics.proto", package="nasbench")
    evaluation, metrics = file.message_type.add(name="EvaluationData"), file.message_type.add(name="ModelMetrics")
    for name, number in (("training_time", 2), ("validation_accuracy", 4), ("test_accuracy", 5)):
        evaluation.field.add(name=name, number=number, type=of.TYPE_DOUBLE, label=of.LABEL_REQUIRED)
    metrics.field.add(
        name="evaluation_data",
        number=1,
        type=of.TYPE_MESSAGE,
        label=of.LABEL_REPEATED,
        type_name=".nasbench.EvaluationData",
    )
    metrics.field.add(name="trainable_parameters", number=2, type=of.TYPE_UINT64, label=of.LABEL_REQUIRED)
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("nasbench.ModelMetrics"))


_ModelMetrics = _model_metrics()


def _observation(path: Path, record: TFRecord) -> _Observation:
    try:
        module_hash, epochs, adjacency, operations, text = from_json(_Content, record.data)
        metrics = _ModelMetrics.FromString(binascii.a2b_base64(text, strict_mode=True))
        if not metrics.IsInitialized() or not metrics.evaluation_data:
            raise ValueError("evaluations, accuracies, seconds or parameters are missing from its metrics")
        last, params = metrics.evaluation_data[-1], metrics.trainable_parameters
        values = validation, test, seconds = last.validation_accuracy, last.test_accuracy, last.training_time
        if not (0 <= validation <= 1 and 0 <= test <= 1 and 0 <= seconds <= LONGEST_TRAINING and params <= MOST_PARAMS):
            raise ValueError(
                f"validation accuracy {validation}, test accuracy {test}, {seconds} seconds, {params} parameters"
            )
    except (ValueError, DecodeError) as error:
        raise UserError(f"{path}: {record} is none of NAS-Bench-101's ({error}): is this its official file?") from error
    return _Observation(
        record, bytes.fromhex(module_hash), BUDGETS.index(epochs), adjacency, operations, values, params
    )


def _population(path: Path, found: list[_Observation]) -> Int64[Tensor, "n 26"]:
    """The cells of some records."""
    population = torch.empty(len(found), cells.EDGES + 5, dtype=torch.int64)
    sizes = np.array([math.isqrt(len(o.adjacency)) for o in found])
    for v in np.unique(sizes).tolist():
        which = np.flatnonzero(sizes == v)
        try:
            digits = np.frombuffer("".join([found[i].adjacency for i in which]).encode(), dtype=np.uint8)
            matrices = torch.from_numpy(digits.astype(np.int64) - ord("0")).reshape(len(which), v, v)
            operations = [found[i].operations.split(",") for i in which]
            population[which] = cells.from_matrices(matrices, operations)
        except (UserError, RuntimeError) as error:
            if len(found) > 1:  # which of them is it?
                for one in found:
                    _population(path, [one])
            raise UserError(f"{path}: {found[0].record} is no cell of NAS-Bench-101: {error}") from error
    return population


def from_parquet(path: Path) -> TabularBenchmark:
    """A table from one row per cell of NAS-Bench-101, labelled or not.

    Columns: `hash` (32 hexadecimal digits), `vertices`, `edge_bits` and `ops` as `cells.embed` has them, `params`,
    `val_acc_{4,12,36,108}ep` in [0, 1] and `train_seconds_108ep`, null where unknown. Further columns are left alone:
    labels of another origin must not mix with these.

    Raises:
        UserError: a column is missing, a row is no cell, or a hash is another cell's.
    """
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise UserError(f"{path}: reading Parquet needs pyarrow; install it by: pip install 'vaenas[bench]'") from error
    numbers = ("vertices", "edge_bits", "params")
    measured = (*(f"val_acc_{epochs}ep" for epochs in BUDGETS), "train_seconds_108ep")
    wanted = ["hash", "ops", *numbers, *measured]
    parts, first = [], 0
    try:
        file = parquet.ParquetFile(path)
        if missing := [name for name in wanted if name not in file.schema_arrow.names]:
            raise UserError(f"{path}: no column {missing[0]!r}; a table of NAS-Bench-101 needs {', '.join(wanted)}")
        for batch in file.iter_batches(_BATCH, columns=wanted):
            vertices, edge_bits, params = (torch.tensor(batch[name].cast("int64").to_numpy()) for name in numbers)
            floats = [torch.tensor(batch[name].cast("float32").to_numpy(zero_copy_only=False)) for name in measured]
            digests = batch["hash"].to_pylist()
            if wrong := [text for text in digests if not re.match(_HASH, text)]:
                raise ValueError(f"hash {short(wrong[0])}, not 32 hexadecimal digits")
            hashes = torch.frombuffer(bytearray.fromhex("".join(digests)), dtype=torch.uint8).reshape(len(batch), 16)
            try:
                population = cells.embed(vertices, edge_bits, batch["ops"].to_pylist()).to(torch.uint8)
            except UserError as error:
                raise UserError(f"{path}: of the rows from {first} on, {error}") from error
            parts.append((population, torch.stack(floats, dim=1), hashes, params))
            first += len(batch)
    except (pyarrow.ArrowException, OSError, TypeError, ValueError) as error:
        raise UserError(f"{path}: cannot read it as NAS-Bench-101's Parquet table ({error}); get it anew") from error
    if not parts:
        raise UserError(f"{path}: no rows; NAS-Bench-101 has {CELLS:,} cells")
    population, floats, hashes, params = (torch.cat(part) for part in zip(*parts, strict=True))
    validation = floats[:, :-1, None]
    seconds = torch.full_like(validation, torch.nan)
    seconds[:, -1, 0] = floats[:, -1]
    return _table(
        population.long(), BUDGETS, validation, path, hashes, params,
        seconds=seconds,
    )  # fmt: skip


def _table(
    population: Int64[Tensor, "n 26"],
    budgets: tuple[int, ...],
    validation: Float[Tensor, "n b r"],
    path: Path,
    hashes: UInt8[Tensor, "n 16"],
    params: Int64[Tensor, "n"],
    seconds: Float[Tensor, "n b r"],
    test: Float[Tensor, "n b r"] | None = None,
) -> TabularBenchmark:
    """The table, once a sample of its hashes has been computed anew."""
    table = TabularBenchmark.of(
        NASBench101Space(), population, budgets, validation,
        source=path.name, measured="validation accuracy of single training runs",
        test=test, seconds=seconds, params=params, hashes=hashes,
    )  # fmt: skip
    sample = torch.linspace(0, len(population) - 1, min(len(population), _HASHES_CHECKED)).long()
    for i, found in zip(sample.tolist(), cells.module_hash(population[sample]), strict=True):
        stated = hashes[i].numpy().tobytes().hex()
        if found != stated:
            raise UserError(f"{path}: cell {i} has hash {found}, and not {stated} as it says there: get the file anew")
    return table
