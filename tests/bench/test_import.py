"""Every row of the three sources, users' own CSV files, the size of the full table, and the command."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runs.command import call, environment
from vaenas.bench.import_nasbench101 import columns
from vaenas.bench.import_table import import_table
from vaenas.errors import UserError
from vaenas.evaluation.tabular import TabularBenchmark
from vaenas.spaces import cells, nasbench201
from vaenas.spaces.macro import macro_space
from vaenas.spaces.nasbench101 import NASBench101Space


def close(a: torch.Tensor, b: object) -> None:
    torch.testing.assert_close(a, torch.as_tensor(b, dtype=a.dtype), equal_nan=True)


def test_every_row_of_nasbench101(nasbench101_table: Path, cells_parquet: Path) -> None:
    table, source = TabularBenchmark.open(nasbench101_table), parquet.read_table(cells_parquet)
    vertices, bits, params = (
        torch.tensor(source[name].to_numpy().astype(np.int64)) for name in ("vertices", "edge_bits", "params")
    )
    population = cells.embed(vertices, bits, source["ops"].to_pylist())
    assert (table.space, table.budgets, table.runs) == (NASBench101Space(), (4, 12, 36, 108), 1)
    assert not table.has_test
    assert len(table) == 423_624
    for epochs in table.budgets:
        close(table.validation(population, epochs), source[f"val_acc_{epochs}ep"].to_numpy())
        seconds = source["train_seconds_108ep"].to_numpy()
        close(table.seconds(population, epochs), seconds if epochs == 108 else np.full_like(seconds, np.nan))
    assert torch.equal(table.params(population), params)
    rows = table.rows(population)
    assert torch.equal(rows.sort().values, torch.arange(423_624))
    stored = table._tensors["hash"][rows].numpy().tobytes().hex()
    assert stored == "".join(source["hash"].to_pylist())
    assert int(table.known(population).sum()) == len(table.labelled()) == 30_001


@pytest.mark.parametrize(
    ("dataset", "prefix"), [(None, "cifar10"), ("cifar100", "cifar100"), ("imagenet16-120", "imagenet16")]
)
def test_every_row_of_nasbench201(dataset: str | None, prefix: str, nasbench201_csv: Path) -> None:
    table = import_table(nasbench201_csv, dataset=dataset)
    with nasbench201_csv.open() as file:
        rows = list(csv.DictReader(file))
    population = torch.tensor([nasbench201.parse(row["cell"]) for row in rows])
    assert (table.space, table.budgets, table.runs, len(table)) == (
        nasbench201.NASBench201Space(),
        (12, 200),
        1,
        15625,
    )
    for epochs in (12, 200):
        close(table.validation(population, epochs), [float(row[f"{prefix}_val_{epochs}ep"]) / 100 for row in rows])
        if f"{prefix}_test_{epochs}ep" in rows[0]:
            close(table.test(population, epochs), [float(row[f"{prefix}_test_{epochs}ep"]) / 100 for row in rows])
    assert table.has_test == (dataset != "cifar100")  # which has none after 200 epochs
    assert table.params(population).tolist() == [int(row["params"]) for row in rows]
    assert (table.offset, table.scale) == (0, 100)


def test_every_row_of_nasbench_macro(macro_table: Path, macro_json: Path) -> None:
    table, networks = TabularBenchmark.open(macro_table), json.loads(macro_json.read_text())
    population = macro_space().decode(list(networks))
    assert (table.space, table.runs, len(table), table.has_test) == (macro_space(), 3, 6561, False)
    accuracies = torch.tensor([network["test_acc"] for network in networks.values()], dtype=torch.float64) / 100
    for run in range(3):
        close(table.validation(population, run=run), accuracies[:, run])
    close(table.validation(population), [network["mean_acc"] / 100 for network in networks.values()])
    assert table.params(population).tolist() == [network["params"] for network in networks.values()]


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_columns_hold_each_observation_once(data: st.DataObject) -> None:
    seen = data.draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1)), min_size=1, max_size=30))
    rows, budgets = np.array(seen, dtype=np.int32).T
    values = np.arange(len(seen), dtype=np.float32)
    first, second = columns(rows, budgets, np.stack([values, -values], axis=1))
    close(first, -second)
    for row in range(first.shape[0]):
        for budget in range(first.shape[1]):
            expected = [float(i) for i, place in enumerate(seen) if place == (row, budget)]
            assert first[row, budget, : len(expected)].tolist() == expected
            assert first[row, budget, len(expected) :].isnan().all()


def own(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_users_own_table(tmp_path: Path) -> None:
    """Slots in the order that was asked for, values in the order of their texts, runs in the order of lines."""
    path = own(
        tmp_path / "mine.csv",
        "depth,score,kind,final\n3,0.5,b,0.6\n1,0.25,a,0.5\n\n3,0.75,b,0.7\n3,0.125,a,0.1\n1,0.5,b,0.2\n",
    )
    table = import_table(path, slots=["kind", "depth"], score="score", test="final")
    assert table.space.name == "csv:mine"
    assert table.slots == {"kind": ["a", "b"], "depth": ["1", "3"]}
    assert (table.runs, len(table), table.has_test, table.offset, table.scale) == (2, 4, True, 0, 1)
    asked = table.space.decode(["11", "00", "01", "10"])
    assert asked.tolist() == [[1, 1], [0, 0], [0, 1], [1, 0]]
    close(table.validation(asked), [0.625, 0.25, 0.125, 0.5])
    close(table.validation(asked, run=1), [0.75, torch.nan, torch.nan, torch.nan])
    close(table.test(asked), [0.65, 0.5, 0.1, 0.2])


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_scores_of_any_kind_come_back(tmp_path_factory: pytest.TempPathFactory, scores: list[float]) -> None:
    lines = "".join(f"{i % 7},{i // 7},{score!r}\n" for i, score in enumerate(scores))
    path = own(tmp_path_factory.getbasetemp() / "scores.csv", "a,b,score\n" + lines)
    table = import_table(path, slots=["a", "b"], score="score")
    codes = [f"{i % 7}{i // 7}" for i in range(len(scores))]
    accuracies = table.validation(table.space.decode(codes))
    assert ((accuracies >= 0) & (accuracies <= 1)).all()
    largest = max(map(abs, scores), default=0)
    found = table.offset + table.scale * accuracies.double()
    torch.testing.assert_close(found, torch.tensor(scores).double(), atol=1e-6 * largest + 1e-30, rtol=0)
    if min(scores) >= 0 and max(scores) <= 1:
        assert (table.offset, table.scale) == (0, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no rows"),
        ("a,b,score\n", "no rows"),
        ("a,score\n1,2\n", "no columns 'b'; it has a, score"),
        ("a,b,b,score\n1,2,3,4\n", "2 columns 'b'"),
        ("a,b,score\n1,2,0.5\n\n1,2\n", "line 4 has 2 values; the first line names 3"),
        ("a,b,score\n1,2,0.5\n1,2,high\n", "line 3 has 'high' in column 'score'"),
        ("a,b,score\n1,2,0.5\n1,2,\n", "line 3 has '' in column 'score'"),
        ("a,b,score\n1,2,nan\n", "line 2 has 'nan' in column 'score'"),
        ("a,b,score\n1,2,inf\n", "line 2 has 'inf' in column 'score'"),
        ("a,b,score\n1,2,0.5\n1,,0.5\n", "line 3 has no value in column 'b'"),
        ("a,b,score\n" + "".join(f"{i},0,0.5\n" for i in range(63)), "column 'a' has 63 values; at most 62"),
    ],
)
def test_bad_csv(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        import_table(own(tmp_path / "mine.csv", text), slots=["a", "b"], score="score")


def test_bad_sources(tmp_path: Path) -> None:
    header = "cell,params,cifar10_val_12ep\n"
    cell = nasbench201.NASBench201Space().own_text(torch.zeros(6).long())
    empty = pyarrow.table({"hash": pyarrow.array(["00"])})
    parquet.write_table(empty, tmp_path / "other.parquet")
    row = {"hash": ["f" * 32], "vertices": [2], "edge_bits": [1], "ops": [""], "params": [5]}
    row |= {name: [0.5] for name in (*(f"val_acc_{e}ep" for e in (4, 12, 36, 108)), "train_seconds_108ep")}
    for i, changes in enumerate(({}, {"edge_bits": [2]}, {"vertices": [9]}, {"hash": ["zz"]}, {"val_acc_4ep": [93.0]})):
        parquet.write_table(pyarrow.table({**row, **changes}), tmp_path / f"{i}.parquet")
    parquet.write_table(pyarrow.table(row).slice(0, 0), tmp_path / "5.parquet")
    for path, message in (
        (tmp_path / "nowhere.csv", "cannot read it: No such file"),
        (tmp_path / "nowhere.parquet", "cannot read it"),
        (tmp_path / "other.parquet", "no column 'ops'"),
        (own(tmp_path / "text.parquet", "text"), "cannot read it as NAS-Bench-101's Parquet"),
        (tmp_path / "0.parquet", "cell 0 has hash .*, and not ffff"),
        (tmp_path / "1.parquet", "edge bits 2 do not fit 2 vertices"),
        (tmp_path / "2.parquet", "9 vertices"),
        (tmp_path / "3.parquet", "cannot read it as NAS-Bench-101's Parquet"),
        (tmp_path / "4.parquet", "validation accuracy 93; accuracies lie in"),
        (tmp_path / "5.parquet", "no rows"),
        (own(tmp_path / "a.txt", ""), "unknown kind of file; known are .tfrecord, .parquet, .json and .csv"),
        (own(tmp_path / "b.json", "{"), "cannot read it as NAS-Bench-Macro's JSON"),
        (own(tmp_path / "c.json", "{}"), "NAS-Bench-Macro's JSON .*at least 1 item"),
        (own(tmp_path / "d.json", '{"0123": {"test_acc": [9], "params": 1}}'), "architecture '0123'"),
        (own(tmp_path / "e.csv", "a,b\n1,2\n"), "no columns 'cell'"),
        (own(tmp_path / "f.csv", header + "|none|,1,50\n"), r"f.csv: cell '\|none\|'"),
        (own(tmp_path / "g.csv", header + f"{cell},1,high\n"), "g.csv: line 2 has 'high' in column 'cifar10_val_12ep'"),
    ):
        with pytest.raises(UserError, match=message):
            import_table(path)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ('{"test_acc": [], "params": 1}', "test_acc: List should have at least 1 item"),
        ('{"test_acc": [90], "params": 1e400}', "params: must be a valid integer"),
        ('{"test_acc": [1e400], "params": 1}', "test_acc.0: must be"),
        ('{"test_acc": [90], "params": 9223372036854775808}', "params: must be less than"),
        ('{"test_acc": null, "params": 1}', "test_acc: must be a valid array"),
        ("[" * 10_000, "recursion limit"),
    ],
)
def test_hostile_macro_files(value: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        import_table(own(tmp_path / "a.json", f'{{"02012100": {value}}}'))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hash": [" " * 32]}, "not 32 hexadecimal digits"),
        ({"hash": ["0 " * 16]}, "not 32 hexadecimal digits"),
        ({"params": [-5]}, "params -5"),
        ({"params": [2**62]}, "params 4.61169e"),
        ({"train_seconds_108ep": [float("inf")]}, "seconds inf"),
        ({"vertices": [2**62]}, "vertices; NAS-Bench-101 has 2 to 7"),
    ],
)
def test_hostile_parquet_files(changes: dict[str, list], said: str, tmp_path: Path) -> None:
    row = {"hash": ["f" * 32], "vertices": [2], "edge_bits": [1], "ops": [""], "params": [5]}
    row |= {name: [0.5] for name in (*(f"val_acc_{e}ep" for e in (4, 12, 36, 108)), "train_seconds_108ep")}
    parquet.write_table(pyarrow.table({**row, **changes}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=said):
        import_table(tmp_path / "a.parquet")


def test_blanks_and_a_byte_order_mark_in_a_csv_do_not_count(tmp_path: Path) -> None:
    path = own(tmp_path / "a.csv", "\ufeffdepth, kernel, act , score\n3, 5,relu, 0.5\n4,5 , relu,0.25\n")
    table = import_table(path, slots=["depth", " kernel", "act"], score="score ")
    assert table.slots == {"depth": ["3", "4"], "kernel": ["5"], "act": ["relu"]}
    twice = own(tmp_path / "b.csv", "depth, depth,score\n1,2,0.5\n")
    with pytest.raises(UserError, match="2 columns 'depth'"):
        import_table(twice, slots=["depth"], score="score")


def test_scores_without_a_scale(tmp_path: Path) -> None:
    path = own(tmp_path / "a.csv", "a,score\n1,1e308\n2,-1e308\n")
    with pytest.raises(UserError, match="too far apart"):
        import_table(path, slots=["a"], score="score")


def test_options_that_do_not_fit(tmp_path: Path) -> None:
    path = own(tmp_path / "mine.csv", "a,b,score\n1,2,0.5\n")
    for options, message in (
        ({"slots": ["a"]}, "needs both --slots"),
        ({"score": "score"}, "needs both --slots"),
        ({"test": "score"}, "needs both --slots"),
        ({"slots": [], "score": "score"}, "needs both --slots"),
        ({"slots": ["a", "a"], "score": "score"}, "a column is named twice"),
        ({"slots": ["a", "score"], "score": "score"}, "a column is named twice"),
        ({"slots": ["a"], "score": "score", "dataset": "cifar10"}, "only for NAS-Bench-201's CSV"),
    ):
        with pytest.raises(UserError, match=message):
            import_table(path, **options)
    with pytest.raises(UserError, match="--slots, --score and --test are for a CSV"):
        import_table(tmp_path / "a.json", slots=["a"], score="b")
    with pytest.raises(UserError, match="only for NAS-Bench-201's CSV"):
        import_table(tmp_path / "a.json", dataset="cifar10")
    nasbench201_like = own(tmp_path / "b.csv", "cell,params\n")
    with pytest.raises(
        UserError, match="--dataset mnist: unknown; NAS-Bench-201 has cifar10, cifar100, imagenet16-120"
    ):
        import_table(nasbench201_like, dataset="mnist")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = own(tmp_path / "mine.csv", "a,b,loss\nx,1,-2.5\ny,1,-1.5\nx,1,-2.25\n")
    assert call("bench", "import", path, "--slots", "b, a", "--score", "loss", "--output", tmp_path / "table") == 0
    output = capsys.readouterr().out
    assert output == (
        "csv:mine: 2 architectures, 2 labelled; epochs: not stated; runs: 2; column 'loss' (-2.5 to -1.5 in the file); "
        f"written to {tmp_path / 'table'}\n"
    )
    table = TabularBenchmark.open(tmp_path / "table")
    close(table.validation(table.space.decode(["01", "00"])), [1.0, 0.125])
    assert call("bench", "import", tmp_path / "nowhere.json", "--output", tmp_path / "new") == 2
    assert call("bench", "import", path, "--slots", "a", "--score", "b", "--output", tmp_path / "no" / "table") == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert all(line.startswith("vaenas: ") for line in errors)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mine.csv", "table"]


OPEN = """
import sys
from pathlib import Path
import torch
from vaenas.evaluation.tabular import TabularBenchmark

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

before = resident()
table = TabularBenchmark.open(Path(sys.argv[1]))
opened = resident()
population = table.labelled()[:50_000]
answers = table.validation(population), table.test(population), table.seconds(population), table.params(population)
print(len(table), opened - before, resident() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_the_full_table_is_small_in_memory(nasbench101_table: Path, tmp_path: Path) -> None:
    """All cells with three runs at four budgets of validation and test accuracy and seconds."""
    sample = TabularBenchmark.open(nasbench101_table)
    values = torch.rand(len(sample), 4, 3, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "full"
    TabularBenchmark.of(
        sample.space, sample.population, sample.budgets, values, source="full", measured="made up",
        test=1 - values, seconds=1000 * values, params=sample.params(sample.population), hashes=sample._tensors["hash"],
    ).save(path)  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", OPEN, path], env=environment(tmp_path), capture_output=True, text=True, check=True
    )
    cells_, opened, asked = map(float, done.stdout.split())
    assert cells_ == 423_624
    assert opened <= 100
    assert asked <= opened + 200  # what is asked is read, and labelled() copies all cells
