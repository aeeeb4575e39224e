"""Distillation from a network of timm's: the teacher's answers are learned, and what cannot be a teacher is named."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from tests.runs.command import call, metrics
from vaenas.runs.directory import NewRun
from vaenas.runs.settings import make
from vaenas.training.config import TrainConfig
from vaenas.training.teacher import load_teacher
from vaenas.training.train_run import TrainRun

NAME = "test_resnet"
SETTINGS = {
    "code": "3-5-7x-3",
    "network.width": "0.125",
    "network.layers": "5",
    "training.batch_size": "32",
    "train_images": "320",
    "training.epochs": "3",
}
SETTINGS |= {"training.learning_rate": "0.05", "training.distillation": "0.99"}


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
    config = make(TrainConfig, {**SETTINGS, "teacher.model": NAME, "teacher.weights": str(weights)})
    run = TrainRun(config, NewRun(tmp_path / "run"))
    before = {name: value.clone() for name, value in run.training.teacher.state_dict().items()}  # type: ignore[union-attr]
    list(run.records())
    losses = [line["train_loss"] for line in metrics(tmp_path / "run") if line["kind"] == "epoch"]
    assert losses[-1] < 0.8 * losses[0]
    assert all(torch.equal(value, before[name]) for name, value in run.training.teacher.state_dict().items())  # type: ignore[union-attr]


def test_both_kinds_of_file_are_one_teacher(weights: Path) -> None:
    image = torch.randn(2, 1, 28, 28)
    one, other = (
        load_teacher(NAME, file, 10, (0.3,), (0.4,))(image) for file in (weights, weights.with_suffix(".pth"))
    )
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("name", "channels", "size", "seen"),
    [
        ("test_resnet", 1, 28, (1, 160, 160)),  # smaller than its own 160 px: enlarged
        ("test_resnet", 3, 200, (3, 200, 200)),  # larger: as they are
        ("test_vit", 3, 200, (3, 160, 160)),  # its input is fixed
        ("test_byobnet", 1, 28, (3, 160, 160)),  # a colour teacher of grey images, with ImageNet's normalisation
    ],
)
def test_it_sees_images_as_its_own_config_says(
    name: str, channels: int, size: int, seen: tuple[int, ...], tmp_path: Path
) -> None:
    model = timm.create_model(name, num_classes=10, in_chans=seen[0])
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    mean, std = (0.2, 0.3, 0.4)[:channels], (0.5, 0.6, 0.7)[:channels]
    teacher = load_teacher(name, tmp_path / "w.safetensors", 10, mean, std)
    inputs: list[torch.Tensor] = []
    teacher.model.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    black_and_white = torch.zeros(2, channels, size, size)
    black_and_white[1] = 1
    teacher((black_and_white - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1))
    (found,) = inputs
    assert found.shape == (2, *seen)
    config = model.pretrained_cfg
    its_mean, its_std = (torch.tensor(config[key])[: seen[0]].view(-1, 1, 1) for key in ("mean", "std"))
    assert torch.allclose(found[0], (-its_mean / its_std).expand(seen), atol=1e-5)
    assert torch.allclose(found[1], ((1 - its_mean) / its_std).expand(seen), atol=1e-5)


def test_a_training_asks_it_within_its_range(weights: Path, tmp_path: Path) -> None:
    config = make(
        TrainConfig, {**SETTINGS, "training.epochs": 1, "teacher.model": NAME, "teacher.weights": str(weights)}
    )
    run, seen = TrainRun(config, NewRun(tmp_path / "run")), []
    run.training.teacher.model.register_forward_pre_hook(  # type: ignore[union-attr]
        lambda _, given: seen.append((*given[0].shape[1:], float(given[0].min()), float(given[0].max())))
    )
    next(run.records())
    assert {record[:3] for record in seen} == {(1, 160, 160)}
    assert min(record[3] for record in seen) == pytest.approx(-1, abs=1e-4)  # declared: [-1, 1]
    assert max(record[4] for record in seen) == pytest.approx(1, abs=1e-4)


def test_what_is_no_teacher(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "damaged.safetensors").write_bytes(b"no")
    (tmp_path / "damaged.pth").write_bytes(b"no")
    cases = [
        (["--teacher", "resnet_none", "--teacher-weights", weights], "--teacher resnet_none: timm"),
        (["--teacher", NAME], "--teacher: needs teacher.weights, too"),
        (["--teacher-weights", weights], "--teacher-weights: needs teacher.model, too"),
        (["--teacher", NAME, "--teacher-weights", tmp_path / "none.pth"], "none.pth: there is no such file"),
        (["--teacher", NAME, "--teacher-weights", tmp_path / "damaged.pth"], f"not weights of {NAME} for 1 channels"),
        (["--teacher", NAME, "--teacher-weights", tmp_path / "damaged.safetensors"], "not a whole file of safetensors"),
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
