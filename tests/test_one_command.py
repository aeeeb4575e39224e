"""`vaenas run`: from an image folder to a network in use, stopped and resumed, and what it refuses."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from tests.runs.command import TINY, call, make_pictures, metrics
from vaenas.commands.run import with_widest_fit
from vaenas.networks import NetworkConfig, space_class
from vaenas.networks.weights import load_weights
from vaenas.runs.config import SearchConfig
from vaenas.runs.settings import make

SHORT = [*TINY, "--epochs", "2", "--update.vae-interval", "1", "--evolution.generations", "1", "--train-epochs", "1"]


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Without val/: a tenth is held out for testing, by all that follows alike."""
    monkeypatch.setenv("VAENAS_CACHE", str(tmp_path / "cache"))
    root = make_pictures(tmp_path / "pictures")
    (root / "val").rename(tmp_path / "unused")
    return root


def test_from_a_folder_to_a_network_in_use(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = [w for w in SHORT if w not in ("--width", "0.25")]
    given = ["--max-flops", "1M", "--formats", "onnx,timm", "--batch-size", "15", "--recipe", "quick"]
    assert call("run", "--data", pictures, "--output", out, *words, *given) == 0
    names = {file.name for file in out.iterdir()}
    assert names == {
        "run.yaml", "search", "training", "evaluation.json", "confusion.png", "network.onnx", "weights.safetensors",
        "network.md", "weights.md", "report.html",
    }  # fmt: skip
    search, trained, evaluation = (
        json.loads(file.read_text())
        for file in (out / "search" / "result.json", out / "training" / "result.json", out / "evaluation.json")
    )
    assert trained["code"] == search["best"]["code"]
    assert trained["flops"] == evaluation["flops"] == search["best"]["flops"] <= 1e6
    assert (
        yaml.safe_load((out / "search" / "config.yaml").read_text())["network"]["width"] == 0.5
    )  # the widest that fits
    split = search["images"]["test_split"]
    assert (split["images"], split["per_class"]) == (15, [5, 5, 5])
    assert trained["images"]["test_split"] == evaluation["test_split"] == split
    assert (search["images"]["training"], trained["images"]["training"], evaluation["images"]) == (105, 135, 15)
    assert evaluation["top1"] == pytest.approx(trained["accuracy"])
    assert set(evaluation["latency_ms"]) == {"torch", "onnx"}
    network, info = load_weights(out / "weights.safetensors")
    assert network.eval()(torch.zeros(1, 3, 16, 16)).shape == (1, 3)
    assert info.classes == ("blue", "green", "red")

    # Resumed after the search had ended, it goes on with the training; what has been made is made again.
    (out / "evaluation.json").unlink()
    (out / "training" / "result.json").unlink()
    before = metrics(out / "training")
    assert call("run", "--resume", out) == 0
    assert json.loads((out / "evaluation.json").read_text())["top1"] == evaluation["top1"]
    assert metrics(out / "training") == before
    capsys.readouterr()
    assert call("run", "--resume", out, "--seed", "5") == 2
    assert "--seed 5: the run in" in capsys.readouterr().err
    assert call("run", "--resume", out, "--train-epochs", "99") == 2
    assert "--train-epochs 99: the run in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--formats", "onnx,tflite"], "--format tflite: choose onnx, torch, timm, safetensors"),
        (["--recipe", "quickly"], "--recipe: 'quickly' is not allowed"),
        (["--train-epochs", "0"], "--train-epochs"),
        (["--resume", "nowhere"], "--resume nowhere: no run of `vaenas run` is in it"),
        (["--max-flops", "1K"], "--max-flops 1K: nothing in space shufflenet is that small"),
    ],
)
def test_what_cannot_work_is_said_before_it_begins(
    words: list[str], said: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = [] if "--resume" in words else ["--output", tmp_path / "out"]
    assert call("run", "--data", pictures, *SHORT, *output, *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "out").exists()


def test_the_widest_network_that_fits(pictures: Path) -> None:
    """Half the space keeps the limit at the chosen width, less than half at the next one."""
    base = {"data": {"source": str(pictures), "image_size": 32}, "network.layers": 5}
    for limit in ("2M", "900M"):
        settings = make(SearchConfig, {**base, "constraints.max_flops": limit})
        width = with_widest_fit(settings).network.width
        assert width is not None
        shares = []
        for w in (width, width + 0.125):
            space = space_class("shufflenet")(NetworkConfig(32, 3, 3, w, 5))
            population = space.space.uniform(1000, torch.Generator().manual_seed(3))
            kept = space.cost(population).multiply_adds <= settings.constraints.max_flops
            shares.append(float(kept.float().mean()))
        assert shares[0] > 0.45
        assert width == 1 or shares[1] < 0.55
    given = make(SearchConfig, {**base, "constraints.max_flops": "1M", "network.width": 0.25})
    assert with_widest_fit(given).network.width == 0.25
