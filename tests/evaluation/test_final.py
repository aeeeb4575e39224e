"""What `vaenas eval` says of a trained network."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.runs.command import call
from tests.training.test_recipes import CODE
from vaenas.data.load import load
from vaenas.data.settings import DataSettings
from vaenas.evaluation.final import BINS, latency, quality
from vaenas.networks.weights import NetworkInfo, save_weights


def test_figures_of_answers_worked_out_by_hand() -> None:
    # Three classes; confidences are the softmax of these, guesses 0, 0, 1, 2.
    p = torch.tensor([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8]], dtype=torch.float64)
    labels = torch.tensor([0, 1, 1, 0])
    found = quality(p.log(), labels)
    assert (found.top1, found.top5, found.images) == (0.5, 1.0, 4)
    assert found.confusion == [[1, 0, 1], [1, 1, 0], [0, 0, 0]]
    assert found.per_class == [0.5, 0.5, None]
    # Confidences 0.8 (twice, one right), 0.6 (wrong), 0.5 (right) fall into three bins.
    assert found.calibration_error == pytest.approx((2 * abs(0.5 - 0.8) + 0.6 + 0.5) / 4)


def test_a_calibrated_network_has_no_calibration_error() -> None:
    """Labels drawn with the confidences' odds: the error of 20,000 is noise, below 0.02 (seed fixed)."""
    rng = torch.Generator().manual_seed(0)
    p = torch.rand(20_000, 4, generator=rng, dtype=torch.float64).softmax(-1)
    labels = p.multinomial(1, generator=rng)[:, 0]
    assert quality(p.log(), labels).calibration_error < 0.02
    assert quality(5 * p.log(), labels).calibration_error > 0.1  # the same answers, too sure
    assert BINS == 15


def test_latency_is_that_of_what_runs() -> None:
    done = []
    found = latency(lambda images: done.append(tuple(images.shape)), (3, 8, 8), batch=2, runs=20)
    assert done == [(2, 3, 8, 8)] * 25
    assert 0 <= found["median"] <= found["p95"]


@pytest.fixture
def weights(tmp_path: Path) -> tuple[Path, NetworkInfo]:
    data = load(DataSettings())
    info = NetworkInfo("nasnet", CODE, 28, 1, 2, 3, tuple(data.train.classes), data.mean, data.std)
    torch.manual_seed(0)
    save_weights(tmp_path / "weights.safetensors", info.build(), info)
    return tmp_path / "weights.safetensors", info


def test_the_command_prints_them(
    weights: tuple[Path, NetworkInfo], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "confusion.svg"
    assert call("eval", weights[0], "--json", "--batch-size", "16", "--picture", picture) == 0
    found, test = json.loads(capsys.readouterr().out), load(DataSettings()).test
    assert test is not None
    assert found["images"] == sum(map(sum, found["confusion"])) == len(test)
    assert found["top1"] <= found["top5"]
    assert found["classes"] == list(weights[1].classes)
    assert found["params"] == sum(p.numel() for p in weights[1].build().parameters())
    assert [row["batch"] for row in found["latency_ms"]["torch"]] == [1, 16]
    assert "onnx" not in found["latency_ms"]  # nothing was exported
    assert picture.read_bytes().startswith(b"<?xml")
    assert call("eval", weights[0], "--batch-size", "8") == 0
    assert "calibration error" in capsys.readouterr().out


def test_what_cannot_be_tested_is_one_line(
    weights: tuple[Path, NetworkInfo], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, info = weights
    other = replace(info, classes=("cat", *info.classes[1:]))
    save_weights(tmp_path / "other.safetensors", other.build(), other)
    wide = replace(info, image_size=32)
    save_weights(tmp_path / "wide.safetensors", wide.build(), wide)
    colour = replace(info, image_channels=3, mean=(0.5,) * 3, std=(0.5,) * 3)
    save_weights(tmp_path / "colour.safetensors", colour.build(), colour)
    for words, said in (
        ([tmp_path / "none.safetensors"], "no weights at"),
        ([tmp_path / "other.safetensors"], "'cat' is in one alone"),
        ([tmp_path / "wide.safetensors"], "image size 32: builtin has 28 pixels"),
        ([tmp_path / "colour.safetensors"], "images of 1 channels; the network takes 3"),
        ([file, "--data", tmp_path / "nowhere"], "nowhere"),
        ([file, "--batch-size", "0"], "--batch-size"),
        ([file, "--picture", tmp_path / "confusion.pdf"], "must end in .svg or .png"),
    ):
        assert call("eval", *words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
