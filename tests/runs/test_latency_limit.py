"""`--max-latency`, in both methods, through the same code as the other limits."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from tests.runs.command import TINY, assert_same_end, call, make_pictures, result
from vaenas.errors import UserError
from vaenas.networks import ImageSpace, NetworkConfig, latency, space_class
from vaenas.networks.cost import AdditiveCost
from vaenas.networks.latency import LatencyTable

NASNET = [
    "--space",
    "nasnet",
    "--method",
    "gradient",
    "--gradient.arch-update",
    "two-path",
    "--width",
    "4",
    "--layers",
    "3",
]
NASNET += ["--evolution.population", "4", "--batch-size", "16", "--epochs", "1", "--image-size", "16"]
NASNET += ["--ranking.images", "30", "--ranking.recalibration-images", "16", "--update.vae-interval", "0.5"]
BOTH = {"one-shot": TINY, "gradient": NASNET}


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VAENAS_CACHE", str(tmp_path / "cache"))
    return make_pictures(tmp_path / "pictures")


@pytest.mark.parametrize("words", BOTH.values(), ids=BOTH.keys())
def test_what_is_ranked_or_returned_is_as_fast(
    words: list[str], tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert call("search", "--data", pictures, "--output", tmp_path / "slow", *words, "--max-latency", "1us") == 2
    assert "--max-latency 0.001ms: nothing in space" in capsys.readouterr().err
    (file,) = (tmp_path / "cache" / "latency").glob("*.json")
    space = _space("nasnet" if words is NASNET else "shufflenet")
    table = LatencyTable.from_json(file.read_bytes(), space)
    limit = _median_of_random(space, table)
    assert call("search", "--data", pictures, "--output", run, *words, "--max-latency", f"{limit}ms") == 0
    used = LatencyTable.from_json((run / "latency.json").read_bytes(), space)
    found = result(run)
    assert found["latency"] == {"device": used.device, "error": used.error}
    for entry in [found["best"], *found["pareto"]]:
        architecture = entry["architecture"]
        total = used.constant + sum(row[o] for row, o in zip(used.table, architecture, strict=True))
        assert entry["latency_ms"] == total / 1e6 <= limit


def _space(name: str) -> ImageSpace:
    return space_class(name)(NetworkConfig(16, 3, 3, *((4, 3) if name == "nasnet" else (0.25, 5))))


def _median_of_random(space: ImageSpace, table: LatencyTable) -> float:
    population = space.space.uniform(500, torch.Generator().manual_seed(0))
    assert isinstance(space.cost, AdditiveCost)
    latency = table.added_to(space.cost)(population).latency
    assert latency is not None
    return round(float(latency.median()) / 1e6, 4)


def test_a_resumed_run_keeps_its_latencies(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another table in the cache changes nothing; without its own the run says so."""
    run, again = tmp_path / "run", tmp_path / "again"
    words = [*TINY, "--epochs", "2"]
    assert call("search", "--data", pictures, "--output", run, *words, "--max-latency", "1s") == 0
    assert yaml.safe_load((run / "config.yaml").read_text())["constraints"]["max_latency"] == 1000
    shutil.copytree(run, again)
    (again / "result.json").unlink()
    monkeypatch.setenv("VAENAS_CACHE", str(tmp_path / "empty"))
    assert call("search", "--resume", again) == 0
    assert not (tmp_path / "empty" / "latency").exists()
    assert_same_end(run, again)
    (again / "result.json").unlink()
    for hostile in HOSTILE:
        (again / "latency.json").write_text(hostile)
        capsys.readouterr()
        assert call("search", "--resume", again) == 2
        err = capsys.readouterr().err
        assert "latency.json: cannot read the run's latencies" in err
        assert err.count("\n") == 1


ROW = [1, 1, 1, 1]  # of five: TINY's layers and the operations of its space
HOSTILE = [
    "{}", "7", "[" * 100_000, "{", *(
        json.dumps({"table": 5 * [ROW], "constant": 0, "error": 0.1, "device": "x"} | wrong)
        for wrong in (
            {"table": 4 * [ROW]}, {"table": [[1]]}, {"table": []}, {"table": 5 * [[1, 1, 1, -1]]},
            {"table": 5 * [[1, 1, 1, 2**62]]}, {"table": 5 * [[1, 1, 1, 0.5]]}, {"constant": -1}, {"constant": 1e400},
            {"error": float("nan")}, {"device": 7},
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize("cache", ["file", "file/below"])
def test_a_cache_that_cannot_be_written_is_said_before_anything_is_timed(
    cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(latency, "measure", lambda *_: pytest.fail("timed"))
    with pytest.raises(UserError, match=r"cannot write .*; make room or set VAENAS_CACHE to another folder"):
        latency.latency_table(_space("shufflenet"), torch.device("cpu"), tmp_path / cache)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_damaged_table_in_the_cache_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    measured = LatencyTable(5 * [ROW], 3, 0.1, "x")
    arguments = _space("shufflenet"), torch.device("cpu"), Path("relative")
    for content in HOSTILE:
        monkeypatch.setattr(latency, "measure", lambda *_: measured)
        assert latency.latency_table(*arguments).constant == 3
        monkeypatch.setattr(latency, "measure", lambda *_: pytest.fail("timed"))
        assert latency.latency_table(*arguments).constant == 3
        (file,) = Path("relative").rglob("*.json")
        file.write_text(content)
