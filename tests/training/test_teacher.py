"""Distillation from a network of timm's: the teacher's answers are learned, and what cannot be a teacher is named."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from tests.runs.command import call, metrics
from vaenas.runs.directory import NewRun
from vaenas.training.config import make_train_config
from vaenas.training.teacher import load_teacher
from vaenas.training.train_run import TrainRun

NAME = "test_resnet"
SETTINGS = {
    "code": "3-5-7x-3",
    "width": "0.125",
    "layers": "5",
    "batch_size": "32",
    "train_images": "320",
    "epochs": "3",
}
SETTINGS |= {"learning_rate": "0.05", "distillation": "0.99"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher with opinions: its last layer is scaled up, so that its answers are not all alike."""
    torch.manual_seed(0)
    model = timm.create_model(NAME, num_classes=10, in_chans=1)
    with torch.no_grad():
        model.get_classifier().weight.mul_(20)
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    save_file(model.state_dict(), path)
    torch.save(model.state_dict(), path.with_suffix(".pth"))
    return path


def test_the_answers_are_learned(weights: Path, tmp_path: Path) -> None:
    config = make_train_config({**SETTINGS, "teacher": NAME, "teacher_weights": str(weights)})
    run = TrainRun(config, NewRun(tmp_path / "run"))
    before = {name: value.clone() for name, value in run.training.teacher.state_dict().items()}  # type: ignore[union-attr]
    list(run.records())
    losses = [line["train_loss"] for line in metrics(tmp_path / "run") if line["kind"] == "epoch"]
    assert losses[-1] < 0.8 * losses[0]
    assert all(torch.equal(value, before[name]) for name, value in run.training.teacher.state_dict().items())  # type: ignore[union-attr]


def test_both_kinds_of_file_are_one_teacher(weights: Path) -> None:
    image = torch.randn(2, 1, 28, 28)
    one, other = (load_teacher(NAME, file, 1, 10)(image) for file in (weights, weights.with_suffix(".pth")))
    assert torch.equal(one, other)


def test_what_is_no_teacher(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "damaged.safetensors").write_bytes(b"no")
    (tmp_path / "damaged.pth").write_bytes(b"no")
    cases = [
        (["--teacher", "resnet_none", "--teacher-weights", weights], "--teacher resnet_none: timm"),
        (["--teacher", NAME], "--teacher: needs teacher-weights, too"),
        (["--teacher-weights", weights], "--teacher-weights: needs teacher, too"),
        (["--teacher", NAME, "--teacher-weights", tmp_path / "none.pth"], "none.pth: cannot read the file: No such"),
        (["--teacher", NAME, "--teacher-weights", tmp_path / "damaged.pth"], f"not weights of {NAME} for 1 channels"),
        (["--teacher", NAME, "--teacher-weights", tmp_path / "damaged.safetensors"], "not a whole safetensors file"),
        (
            ["--teacher", "test_vit", "--teacher-weights", weights],
            "not weights of test_vit for 1 channels and 10 classes",
        ),
    ]
    for words, said in cases:
        given = ["--width", "0.125", "--layers", "5", "--output", tmp_path / "run"]
        assert call("train", "3-5-7x-3", *given, *words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
        assert not (tmp_path / "run").exists()
