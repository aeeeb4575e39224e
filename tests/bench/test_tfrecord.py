"""The official files: framing and checksums, damage at every kind of byte, equality with the Parquet import."""

import base64
import json
import random
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c as tensorboard_crc

from tests.bench import official
from tests.bench.official import Run
from tests.runs.command import call
from vaenas.bench.import_nasbench101 import masked_crc32c, read_records
from vaenas.bench.import_table import import_table
from vaenas.errors import UserError
from vaenas.evaluation.tabular import TabularBenchmark
from vaenas.spaces.nasbench101 import NASBench101Space

TEST_SHARE = 0.98  # the sample has no test accuracies: they are made from the real validation accuracies
BUDGETS = (4, 12, 36, 108)


@pytest.fixture(scope="module")
def runs(cells_parquet: Path) -> list[Run]:
    """Three runs of 60 labelled cells at each budget. The first has the real accuracy, the others 1 and 2 % less."""
    rows = parquet.read_table(cells_parquet).slice(0, 60).to_pylist()
    made = []
    for row in rows:
        for epochs in BUDGETS:
            for run in range(3):
                validation = row[f"val_acc_{epochs}ep"] - 0.01 * run
                made.append(
                    Run(
                        row["hash"], row["vertices"], row["edge_bits"], row["ops"], epochs, validation,
                        validation * TEST_SHARE, row["train_seconds_108ep"] * epochs / 108 + run, row["params"],
                    )
                )  # fmt: skip
    return made


@pytest.fixture(scope="module")
def full(runs: list[Run], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return official.write(tmp_path_factory.mktemp("official") / "nasbench_full.tfrecord", map(official.data, runs))


@given(st.binary(max_size=70))
@settings(deadline=None)
def test_checksums_are_tensorboards(message: bytes) -> None:
    assert masked_crc32c(message) == tensorboard_crc(message)


def test_the_checksum_of_the_standard() -> None:
    """CRC-32C of "123456789" is 0xe3069283 in every catalogue; RFC 3720, App. B.4 has that of 32 zeros."""

    def unmasked(message: bytes) -> int:
        rotated = (masked_crc32c(message) - 0xA282EAD8) % 2**32
        return (rotated >> 17 | rotated << 15) % 2**32

    assert unmasked(b"123456789") == 0xE3069283
    assert unmasked(bytes(32)) == 0x8A9136AA


def test_records_come_back_across_blocks(tmp_path: Path) -> None:
    """Data of all lengths, 3 MB in all, so that records lie across the blocks in which the file is read."""
    rng = random.Random(0)
    written = [rng.randbytes(rng.randrange(3000)) for _ in range(2000)]
    path = official.write(tmp_path / "a.tfrecord", [*written[:300], b"", *written[300:]])
    read = list(read_records(path, 3000))
    assert [data for _, data in read] == [*written[:300], b"", *written[300:]]
    content = path.read_bytes()
    for number, (where, data) in enumerate(read):
        offset = int(where.removeprefix(f"record {number} at byte "))
        assert content[offset + 12 :][: len(data)] == data


def test_official_file_equals_the_parquet_import(full: Path, runs: list[Run], nasbench101_table: Path) -> None:
    table, sample = import_table(full), TabularBenchmark.open(nasbench101_table)
    population = table.labelled()
    assert len(table) == len(population) == 60
    assert (table.budgets, table.runs, table.has_test, table.test_budgets) == (BUDGETS, 3, True, BUDGETS)
    assert sample.known(population).all()
    assert torch.equal(table.params(population), sample.params(population))
    for epochs in BUDGETS:
        real = sample.validation(population, epochs)
        for run in range(3):
            torch.testing.assert_close(table.validation(population, epochs, run), real - 0.01 * run, atol=1e-6, rtol=0)
            torch.testing.assert_close(
                table.test(population, epochs, run), (real - 0.01 * run) * TEST_SHARE, atol=1e-6, rtol=0
            )
        torch.testing.assert_close(table.validation(population, epochs), real - 0.01, atol=1e-6, rtol=0)
    torch.testing.assert_close(table.seconds(population, 108, 0), sample.seconds(population, 108))
    by_hash = {run.hash: run for run in runs}
    hashes = [bytes(row).hex() for row in table._tensors["hash"].tolist()]
    assert [by_hash[name].params for name in hashes] == table.params(table.population).tolist()


def test_only108_has_one_budget(runs: list[Run], tmp_path: Path) -> None:
    """Records of a cell need not lie side by side, and cells may have fewer runs than others."""
    kept = [run for run in runs if run.epochs == 108][:60]
    random.Random(1).shuffle(kept)
    table = import_table(official.write(tmp_path / "nasbench_only108.tfrecord", map(official.data, kept[1:])))
    assert (table.budgets, table.runs, len(table)) == ((108,), 3, 20)
    values = torch.stack([table.validation(table.labelled(), run=run) for run in range(3)], dim=1)
    assert int(values.isnan().sum()) == 1
    torch.testing.assert_close(table.validation(table.labelled()), values.nanmean(1))


def _frame(content: bytes, number: int) -> tuple[int, int]:
    """Where a record begins, and how many bytes of data it has."""
    start = 0
    for _ in range(number):
        start += 16 + int.from_bytes(content[start : start + 8], "little")
    return start, int.from_bytes(content[start : start + 8], "little")


@pytest.mark.parametrize("bit", [0, 7])
@pytest.mark.parametrize("number", [0, 250, 719])
@pytest.mark.parametrize("part", ["length", "long length", "length's checksum", "data", "last data", "data's checksum"])
def test_a_flipped_bit_is_found(
    part: str, number: int, bit: int, full: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = bytearray(full.read_bytes())
    start, length = _frame(bytes(content), number)
    place = {
        "length": 0, "long length": 5, "length's checksum": 8 + number % 4, "data": 12 + length // 2,
        "last data": 11 + length, "data's checksum": 12 + length + number % 4,
    }[part]  # fmt: skip
    content[start + place] ^= 1 << bit
    path = tmp_path / "damaged.tfrecord"
    path.write_bytes(content)
    assert call("bench", "import", path, "--output", tmp_path / "table") == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert f"record {number} at byte {start} fails the checksum" in errors[0]
    assert not (tmp_path / "table").exists()


@pytest.mark.parametrize("kept", [1, 11, 12, 200, -5, -1])
@pytest.mark.parametrize("number", [0, 250, 719])
def test_a_cut_is_found(number: int, kept: int, full: Path, tmp_path: Path) -> None:
    content = full.read_bytes()
    start, length = _frame(content, number)
    end = start + (kept if kept > 0 else 16 + length + kept)
    path = tmp_path / "cut.tfrecord"
    path.write_bytes(content[:end])
    with pytest.raises(UserError, match=f"record {number} at byte {start} is cut short"):
        import_table(path)


def test_an_empty_file_and_other_content(full: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    path.write_bytes(b"")
    with pytest.raises(UserError, match="no records"):
        import_table(path)
    path.write_bytes(b"something else altogether")
    with pytest.raises(UserError, match="record 0 at byte 0 fails the checksum of its length"):
        import_table(path)
    official.write(path, [bytes(20_000)])
    with pytest.raises(UserError, match="record 0 at byte 0 has 20000 bytes; at most 16384"):
        import_table(path)


def _changed(run: Run, **changes: object) -> bytes:
    return official.data(Run(**{**run.__dict__, **changes}))


def _metrics_of(record: bytes, more: bytes) -> bytes:
    """A record with further bytes in its message of metrics."""
    *others, metrics = json.loads(record)
    return json.dumps([*others, base64.b64encode(base64.b64decode(metrics) + more).decode()]).encode()


def _with_metrics(record: bytes, metrics: bytes) -> bytes:
    """A record with another message of metrics."""
    return json.dumps([*json.loads(record)[:-1], base64.b64encode(metrics).decode()]).encode()


def test_records_with_right_checksums_and_wrong_content(runs: list[Run], tmp_path: Path) -> None:
    good = [official.data(run) for run in runs[:5]]
    other = runs[12]
    assert other.hash != runs[0].hash
    for wrong, message in (
        (b"{}", "record 5 at byte .* none of NAS-Bench-101's"),
        (b"[1, 2", "record 5 at byte .* none of NAS-Bench-101's"),
        (b"\xff\xfe", "record 5 at byte .* none of NAS-Bench-101's"),
        (_changed(other, epochs=5), "1: must be 4, 12, 36 or 108 .5."),
        (_changed(other, hash="00"), "0: String should match .*'00'"),
        (good[0].replace(b'"0', b'" ', 1), "0: String should match"),
        (json.dumps([*json.loads(good[0])[:2], 5, None, ""]).encode(), "2: must be a valid string .5."),
        (b"[" * 10_000, "none of NAS-Bench-101's .Invalid JSON: recursion limit"),
        (_with_metrics(good[0], b""), "evaluations, accuracies, seconds or parameters are missing"),
        (_with_metrics(good[0], b"\x0a\x00\x10\x05"), "accuracies, seconds or parameters are missing"),
        (_with_metrics(good[0], b"\xff"), "none of NAS-Bench-101's .Error parsing message"),
        (_metrics_of(good[0], b"\x10" + b"\xff" * 9 + b"\x01"), "18446744073709551615 parameters"),
        (_changed(other, seconds=1e300), "1e.300 seconds"),
        (_changed(other, validation=1.5), "validation accuracy 1.5"),
        (_changed(other, validation=float("nan")), "validation accuracy nan"),
        (good[0].replace(b"conv", b"vnoc").replace(runs[0].hash.encode(), bytes(32).hex()[:32].encode()),
         "record 5 at byte .* no cell .*unknown operation 'vnoc"),
        (_changed(other, edge_bits=0), "record 5 at byte .* no cell .*no path"),
        (_changed(other, edge_bits=(1 << 21) - 1), "record 5 at byte .* no cell .*21 edges"),
        (_changed(other, vertices=8, ops="000000"), "record 5 at byte .* no cell .*8 vertices"),
        (_changed(other, hash="f" * 32), "hash .* and not f{32}"),
    ):  # fmt: skip
        path = official.write(tmp_path / "a.tfrecord", [*good, wrong])
        with pytest.raises(UserError, match=message):
            import_table(path)


def test_space_of_the_table(full: Path) -> None:
    assert import_table(full).space == NASBench101Space()
