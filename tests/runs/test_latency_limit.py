"""`--max-latency`, in both methods, through the same code as the other limits."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from tests.runs.command import TINY, assert_same_end, call, make_pictures, result
from vaenas.networks.image_spaces import IMAGE_SPACES
from vaenas.networks.latency import LatencyTable

NASNET = ["--space", "nasnet", "--method", "gradient", "--sampler", "multinomial", "--width", "4", "--layers", "3"]
NASNET += ["--population", "4", "--batch-size", "16", "--epochs", "1", "--image-size", "16"]
NASNET += ["--ranking-images", "30", "--recalibration-images", "16", "--vae-interval", "0.5"]
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
    table = LatencyTable.from_json(json.loads(file.read_text()))
    limit = _median_of_random("nasnet" if words is NASNET else "shufflenet", table)
    assert call("search", "--data", pictures, "--output", run, *words, "--max-latency", f"{limit}ms") == 0
    used = LatencyTable.from_json(json.loads((run / "latency.json").read_text()))
    found = result(run)
    assert found["latency"] == {"device": used.device, "error": used.error}
    for entry in [found["best"], *found["pareto"]]:
        architecture = entry["architecture"]
        total = int(used.table[torch.arange(len(architecture)), architecture].sum()) + used.constant
        assert entry["latency_ms"] == total / 1e6 <= limit


def _median_of_random(space: str, table: LatencyTable) -> float:
    image_space = IMAGE_SPACES[space]
    geometry = image_space.geometry(16, 3, 3, *((4, 3) if space == "nasnet" else (0.25, 5)))
    population = image_space.space(geometry).uniform(500, torch.Generator().manual_seed(0))
    return round(float(table.added_to(image_space.cost(geometry)).totals(population)[2].median()) / 1e6, 4)


def test_a_resumed_run_keeps_its_latencies(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another table in the cache changes nothing; without its own the run says so."""
    run, again = tmp_path / "run", tmp_path / "again"
    words = [*TINY, "--epochs", "2"]
    assert call("search", "--data", pictures, "--output", run, *words, "--max-latency", "1s") == 0
    assert yaml.safe_load((run / "config.yaml").read_text())["max_latency"] == 1000
    shutil.copytree(run, again)
    (again / "result.json").unlink()
    monkeypatch.setenv("VAENAS_CACHE", str(tmp_path / "empty"))
    assert call("search", "--resume", again) == 0
    assert not (tmp_path / "empty" / "latency").exists()
    assert_same_end(run, again)
    (again / "result.json").unlink()
    (again / "latency.json").write_text("{}")
    assert call("search", "--resume", again) == 2
    assert "latency.json: cannot read the run's latencies" in capsys.readouterr().err
