"""NAS-Bench-101 (Ying et al. 2019) to tables: the official TFRecord files, and cells with labels in Parquet."""

import math
import re
from array import array
from binascii import a2b_base64
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessages
from google.protobuf.text_format import Parse
from jaxtyping import Float, Int64, Integer
from pydantic import Field
from torch import Tensor

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
_BATCH = 1 << 15  # cells converted at a time
_HASH = "^[0-9a-f]{32}$"
_Content = tuple[
    Annotated[str, Field(pattern=_HASH)], Literal[BUDGETS], Annotated[str, Field(pattern="^[01]*$")], str, str
]  # pyright: ignore[reportInvalidTypeForm]  # Literal of a tuple's values
# Of the official messages the fields that are used. Parameters are int32 there: too many are seen, not cut off.
_METRICS = """
name: "model_metrics.proto"
message_type {
  name: "EvaluationData"
  field { name: "training_time" number: 2 type: TYPE_DOUBLE label: LABEL_REQUIRED }
  field { name: "validation_accuracy" number: 4 type: TYPE_DOUBLE label: LABEL_REQUIRED }
  field { name: "test_accuracy" number: 5 type: TYPE_DOUBLE label: LABEL_REQUIRED }
}
message_type {
  name: "ModelMetrics"
  field { name: "evaluation_data" number: 1 type: TYPE_MESSAGE type_name: ".EvaluationData" label: LABEL_REPEATED }
  field { name: "trainable_parameters" number: 2 type: TYPE_UINT64 label: LABEL_REQUIRED }
}
"""
_ModelMetrics: Any = GetMessages([Parse(_METRICS, FileDescriptorProto())])["ModelMetrics"]


def from_tfrecord(path: Path) -> TabularBenchmark:
    """The table in `nasbench_only108.tfrecord` or `nasbench_full.tfrecord`.

    Each record is one training run, three for each cell and number of epochs, as a JSON list of

        the module hash: 32 hexadecimal digits
        the epochs: 4, 12, 36 or 108
        the adjacency matrix of v vertices: v * v digits, row by row
        the vertices' operations with commas between: "input,conv3x3-bn-relu,...,output"
        the metrics: base64 of a protobuf message, with evaluations at the start, half-way and at the end

    of which the last evaluation counts. Memory is bounded by the table's size, not by the file's.

    Raises:
        UserError: names the record that is damaged or no record of NAS-Bench-101, and where it begins.
    """
    index: dict[str, int] = {}  # of each cell, by its hash
    found: list[tuple[str, str, str]] = []
    params: list[int] = []
    rows, budgets, values = array("i"), array("i"), array("f")
    for where, data in read_records(path, _MAX_RECORD):
        try:
            module_hash, epochs, adjacency, operations, text = from_json(_Content, data)
            metrics = _ModelMetrics.FromString(a2b_base64(text, strict_mode=True))
            if not metrics.IsInitialized() or not metrics.evaluation_data:
                raise ValueError("evaluations, accuracies, seconds or parameters are missing from its metrics")
            last, p = metrics.evaluation_data[-1], metrics.trainable_parameters
            validation, test, seconds = last.validation_accuracy, last.test_accuracy, last.training_time
            if not (0 <= validation <= 1 and 0 <= test <= 1 and 0 <= seconds <= LONGEST_TRAINING and p <= MOST_PARAMS):
                raise ValueError(
                    f"validation accuracy {validation}, test accuracy {test}, {seconds} seconds, {p} parameters"
                )
        except (ValueError, DecodeError) as error:
            raise UserError(
                f"{path}: {where} is none of NAS-Bench-101's ({error}): is this its official file?"
            ) from error
        if module_hash not in index:
            index[module_hash] = len(index)
            found.append((where, adjacency, operations))
            params.append(p)
        rows.append(index[module_hash])
        budgets.append(epochs)
        values.extend((validation, test, seconds))
    if not index:
        raise UserError(f"{path}: no records; the official files have {CELLS:,} cells: get it anew")
    population = torch.cat([_population(path, found[i : i + _BATCH]) for i in range(0, len(found), _BATCH)])
    present, positions = np.unique(budgets, return_inverse=True)
    validation, test, seconds = columns(np.array(rows), positions, np.array(values).reshape(-1, 3))
    return _table(
        path, population.long(), list(index), budgets=tuple(present.tolist()), validation=validation, test=test,
        seconds=seconds, params=torch.tensor(params),
    )  # fmt: skip


def _population(path: Path, found: list[tuple[str, str, str]]) -> Tensor:
    """The cells (n, 26), as uint8, of some records: where they are, adjacency matrices, operations."""
    population = torch.empty(len(found), cells.EDGES + 5, dtype=torch.uint8)
    try:
        for digits in {len(adjacency) for _, adjacency, _ in found}:
            which = [i for i, (_, adjacency, _) in enumerate(found) if len(adjacency) == digits]
            v = math.isqrt(digits)
            matrices = torch.tensor([list(map(int, found[i][1])) for i in which]).reshape(-1, v, v)
            population[which] = cells.from_matrices(matrices, [found[i][2].split(",") for i in which]).byte()
    except (UserError, RuntimeError) as error:
        if len(found) > 1:  # which of them is it?
            for one in found:
                _population(path, [one])
        raise UserError(f"{path}: {found[0][0]} is no cell of NAS-Bench-101: {error}") from error
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
    try:
        file = parquet.ParquetFile(path)
        if missing := [name for name in wanted if name not in file.schema_arrow.names]:
            raise ValueError(f"no column {missing[0]!r} of {', '.join(wanted)}")
        table = file.read(wanted)
        if not len(table):
            raise ValueError(f"no rows; NAS-Bench-101 has {CELLS:,} cells")
        hashes = table["hash"].to_pylist()
        if wrong := [text for text in hashes if not re.fullmatch(_HASH, text)]:
            raise ValueError(f"hash {short(wrong[0])}, not 32 hexadecimal digits")
        vertices, edge_bits, params = (
            torch.tensor(table[name].cast("int64").to_pylist(), dtype=torch.int64) for name in numbers
        )
        population = cells.embed(vertices, edge_bits, table["ops"].to_pylist())
        floats = torch.stack([torch.tensor(table[name].cast("float32").to_numpy()) for name in measured], dim=1)
    except (pyarrow.ArrowException, OSError, TypeError, ValueError, UserError) as error:
        raise UserError(f"{path}: cannot read it as NAS-Bench-101's Parquet table ({error}); get it anew") from error
    validation = floats[:, :-1, None]
    seconds = torch.full_like(validation, torch.nan)
    seconds[:, -1, 0] = floats[:, -1]
    return _table(path, population, hashes, budgets=BUDGETS, validation=validation, seconds=seconds, params=params)


def _table(path: Path, population: Int64[Tensor, "n 26"], hashes: list[str], **columns: Any) -> TabularBenchmark:
    """The table, once a sample of its hashes has been computed anew; further columns as `TabularBenchmark.of`."""
    table = TabularBenchmark.of(
        NASBench101Space(), population, source=path.name, measured="validation accuracy of single training runs",
        hashes=torch.frombuffer(bytearray.fromhex("".join(hashes)), dtype=torch.uint8).reshape(-1, 16), **columns,
    )  # fmt: skip
    sample = torch.linspace(0, len(population) - 1, min(len(population), _HASHES_CHECKED)).long()
    for i, found in zip(sample.tolist(), cells.module_hash(population[sample]), strict=True):
        if found != hashes[i]:
            raise UserError(
                f"{path}: cell {i} has hash {found}, and not {hashes[i]} as it says there: get the file anew"
            )
    return table


def columns(
    rows: Integer[np.ndarray, "m"], budgets: Integer[np.ndarray, "m"], values: Float[np.ndarray, "m c"]
) -> tuple[Float[Tensor, "n b r"], ...]:
    """The c columns of a table of n architectures and b budgets, of m observations of c values each, in a row.

    r is the most observations of one architecture at one budget: its runs, in their order; NaN where there are fewer.
    """
    n, b = int(rows.max()) + 1, int(budgets.max()) + 1
    place = rows * b + budgets
    order = place.argsort(kind="stable")
    counts = np.bincount(place, minlength=n * b)
    run = np.empty_like(place)
    run[order] = np.arange(len(place)) - np.repeat(counts.cumsum() - counts, counts)
    table = np.full((values.shape[1], n, b, counts.max()), np.nan, dtype=np.float32)
    table[:, rows, budgets, run] = values.T
    return tuple(torch.from_numpy(column) for column in table)


def read_records(path: Path, max_length: int) -> Iterator[tuple[str, bytes]]:
    """Each record of a TFRecord file: where it is, in words, and its data, whose checksums hold.

    Read without TensorFlow (the package `tfrecord` checks no checksum). A record is

        uint64  length of the data, little-endian
        uint32  masked CRC-32C of these 8 bytes
        bytes   data, at most `max_length` of them, which bounds the memory
        uint32  masked CRC-32C of the data

    Raises:
        UserError: names the first record that is cut short, too long, or fails a checksum, and where it begins.
    """
    number = offset = 0
    where = ""

    def read(length: int, what: str) -> bytes:
        """The next bytes, whose checksum stands behind them."""
        content = file.read(length + 4)
        if len(content) < length + 4:
            raise UserError(f"{path}: {where} is cut short: get the file anew")
        if masked_crc32c(content[:length]) != int.from_bytes(content[length:], "little"):
            raise UserError(
                f"{path}: {where} fails the checksum of its {what}: get the file anew, if it is a TFRecord file"
            )
        return content[:length]

    with path.open("rb") as file:
        while file.peek(1):
            where = f"record {number} at byte {offset}"
            length = int.from_bytes(read(8, "length"), "little")
            if length > max_length:
                raise UserError(f"{path}: {where} has {length} bytes; at most {max_length} are expected: another file?")
            yield where, read(length, "data")
            number, offset = number + 1, offset + length + 16


def masked_crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli's polynomial, RFC 3720, App. B.4), rotated right by 15 bits, plus 0xa282ead8 modulo 2^32."""
    try:
        import google_crc32c
    except ImportError as error:
        raise UserError("reading TFRecord files needs google-crc32c: pip install 'vaenas[bench]'") from error
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32
