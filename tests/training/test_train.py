"""Training learns, resumes to the same bits, and leaves a file that is the network."""

import json
import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.runs.command import call, metrics
from tests.training.test_recipes import CODE
from vaenas.errors import UserError
from vaenas.networks.weights import load_weights, save_weights
from vaenas.runs.directory import NewRun, RunDirectory
from vaenas.runs.settings import make
from vaenas.training.config import RECIPES, TrainConfig
from vaenas.training.train_run import TrainRun

NASNET = {"code": CODE, "space": "nasnet", "network.width": "2", "network.layers": "3"}
SHUFFLENET = {"code": "3-5-7x-3", "space": "shufflenet", "network.width": "0.125", "network.layers": "5"}
SMALL = {
    "training.batch_size": "16",
    "train_images": "64",
    "training.epochs": "3",
    "log_interval": "1",
    "evaluate_every": "3",
}
EVERYTHING = {
    "training.auxiliary": "0.4",
    "training.drop_path": "0.3",
    "training.ema": "0.9",
    "training.mixup": "0.2",
    "training.cutmix": "1",
    "training.cutout": "4",
}


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return load_weights(run / "weights.safetensors")[0].state_dict()


@pytest.mark.parametrize(
    "settings",
    [
        {**NASNET, **SMALL, **EVERYTHING},
        {
            **SHUFFLENET,
            **SMALL,
            "training.dropout": "0.3",
            "training.rand_augment": "5",
            "training.inception": "true",
            "training.padding": "0",
        },
    ],
    ids=["nasnet", "shufflenet"],
)
def test_stopped_anywhere_it_ends_in_the_same_bits(settings: dict[str, str], tmp_path: Path) -> None:
    config = make(TrainConfig, settings)
    whole = TrainRun(config, NewRun(tmp_path / "whole"))
    kinds = [record.kind for record in whole.records()]
    assert kinds == ["train", "train", "train", "train", "epoch"] * 3
    at, folder = -1, tmp_path / "stopped"
    for stop in (2, 4, 7, 13, 99):  # in an epoch, at its end, after its first step
        run = TrainRun(config, RunDirectory.open(folder, "training") if at >= 0 else NewRun(folder))
        assert [record.kind for record in islice(run.records(), stop - at)] == kinds[at + 1 : stop + 1]
        at = stop
        if stop < len(kinds):
            run.save()
        del run  # and the lock with it
    ours, theirs = weights_of(tmp_path / "stopped"), weights_of(tmp_path / "whole")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    times = ("images_per_second", "loader_share")
    assert [{k: v for k, v in line.items() if k not in times} for line in metrics(tmp_path / "stopped")] == [
        {k: v for k, v in line.items() if k not in times} for line in metrics(tmp_path / "whole")
    ]


def test_the_file_is_the_network_that_was_tested(tmp_path: Path) -> None:
    run = TrainRun(make(TrainConfig, {**NASNET, **SMALL, **EVERYTHING}), NewRun(tmp_path / "run"))
    list(run.records())
    network, info = load_weights(tmp_path / "run" / "weights.safetensors")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["params"] == sum(p.numel() for p in network.parameters())  # no auxiliary tower in it
    assert run.data.test is not None
    images, labels = run.data.test.batch(torch.arange(len(run.data.test)))
    mean, std = (torch.tensor(x).view(-1, 1, 1) for x in (info.mean, info.std))
    with torch.no_grad():
        guessed = torch.cat([network((part.float() / 255 - mean) / std).argmax(-1) for part in images.split(256)])
    assert int((guessed == labels).sum()) / len(labels) == result["accuracy"]


def test_a_network_learns_real_images(cifar10_archive: Path, tmp_path: Path) -> None:
    settings = {**SHUFFLENET, "data.source": "cifar10", "data.root": str(cifar10_archive), "train_images": "1500"}
    run = TrainRun(
        make(TrainConfig, {**settings, "training.epochs": "4", "training.batch_size": "32"}), NewRun(tmp_path / "run")
    )
    list(run.records())
    epochs = [line for line in metrics(tmp_path / "run") if line["kind"] == "epoch"]
    assert epochs[-1]["train_loss"] < epochs[0]["train_loss"] - 0.1
    assert epochs[-1]["accuracy"] > 0.2  # chance: 0.1; 10,000 test images, so 0.2 is 33 standard errors above it


@pytest.mark.parametrize("name", RECIPES)
def test_one_epoch_of_every_recipe(name: str, tmp_path: Path) -> None:
    network = SHUFFLENET if name == "imagenet-shufflenet" else NASNET
    settings: dict[str, Any] = {
        **network,
        "recipe": name,
        "training.epochs": "1",
        "training.batch_size": "16",
        "train_images": "32",
    }
    run = TrainRun(make(TrainConfig, settings), NewRun(tmp_path / "run"))
    before = {name: value.clone() for name, value in run.training.trained.state_dict().items()}
    list(run.records())
    after = run.training.trained.state_dict()
    assert all(torch.isfinite(value).all() for value in after.values())
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_rates_rise_and_fall_as_the_recipe_says(tmp_path: Path) -> None:
    settings = {**SHUFFLENET, **SMALL, "training.learning_rate": "0.4", "training.warmup_epochs": "1"}
    for schedule, halfway in (("linear", 0.2), ("cosine", 0.2)):
        training = TrainRun(
            make(TrainConfig, {**settings, "training.schedule": schedule}), NewRun(tmp_path / schedule)
        ).training
        rates = [training.rate(step) for step in range(training.steps)]
        assert rates[:4] == pytest.approx([0.1, 0.2, 0.3, 0.4])
        assert rates[4] == pytest.approx(0.4)
        assert rates[8] == pytest.approx(halfway)
        assert 0 < rates[-1] < 0.06


def test_a_search_s_architecture_is_trained_with_its_settings(finished_search: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["--epochs", "1", "--batch-size", "16", "--output", out]
    assert call("train", finished_search, *words) == 0
    best = json.loads((finished_search / "result.json").read_text())["best"]
    result = json.loads((out / "result.json").read_text())
    assert (result["code"], result["params"], result["flops"]) == (best["code"], best["params"], best["flops"])
    assert result["search"] == finished_search.name
    assert call("train", "--resume", out) == 0  # it has ended: shown again


def test_damage_is_named_and_nothing_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    run = TrainRun(make(TrainConfig, {**SHUFFLENET, **SMALL}), NewRun(out))
    list(islice(run.records(), 3))
    run.save()
    del run
    whole = (out / "checkpoint").read_bytes()
    (out / "checkpoint").write_bytes(whole[: len(whole) // 2])
    assert call("train", "--resume", out) == 2
    assert "checkpoint is damaged" in capsys.readouterr().err
    (out / "checkpoint").write_bytes(whole)
    assert call("train", "--resume", out, "--epochs", "4") == 2
    assert "--epochs 4: the run in" in capsys.readouterr().err
    assert call("train", "x-7-35-7", "--code", "77777") == 2
    assert "--code 77777: it says the architecture already; leave x-7-35-7 out" in capsys.readouterr().err
    assert call("train", "--resume", out) == 0


def test_a_weights_file_of_another_network_is_refused(tmp_path: Path) -> None:
    run = TrainRun(make(TrainConfig, {**SHUFFLENET, **SMALL, "training.epochs": "1"}), NewRun(tmp_path / "run"))
    list(run.records())
    file = tmp_path / "run" / "weights.safetensors"
    _, info = load_weights(file)
    other = info.image_space.network(torch.zeros(5, dtype=torch.int64))
    save_weights(tmp_path / "other.safetensors", other, info)
    with pytest.raises(UserError, match=r"not those of architecture 3-5-7x-3") as refused:
        load_weights(tmp_path / "other.safetensors")
    assert len(str(refused.value)) < 600  # not the names of all tensors
    (tmp_path / "cut.safetensors").write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match="not a file of weights"):
        load_weights(tmp_path / "cut.safetensors")
    with pytest.raises(UserError, match="no weights at"):
        load_weights(tmp_path / "none.safetensors")
    shutil.copy(file, tmp_path / "copy.safetensors")
    assert load_weights(tmp_path / "copy.safetensors")[1] == info


def test_decoded_in_workers_at_full_size(imagenet_mini: Path, tmp_path: Path) -> None:
    """Inception crops of real JPEGs; stopped within an epoch it ends in the same bits."""
    settings = {**SHUFFLENET, "recipe": "imagenet-shufflenet", "data.source": str(imagenet_mini / "imagenet-mini")}
    settings |= {
        "data.image_size": "32",
        "data.workers": "1",
        "training.epochs": "2",
        "training.batch_size": "20",
        "log_interval": "1",
        "train_images": "66",
    }
    config = make(TrainConfig, settings)
    list(TrainRun(config, NewRun(tmp_path / "whole")).records())
    run = TrainRun(config, NewRun(tmp_path / "stopped"))
    for record in run.records():
        if record.kind == "train" and run.training.step == 2:
            run.save()
            break
    del run
    list(TrainRun(config, RunDirectory.open(tmp_path / "stopped", "training")).records())
    one, two = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "stopped"))
    assert one.pop("seconds")
    assert two.pop("seconds")
    assert one == two
    assert (one["images"]["training"], one["images"]["test"]) == (66, 200)
    weights = weights_of(tmp_path / "stopped")
    assert all(torch.equal(value, weights[name]) for name, value in weights_of(tmp_path / "whole").items())
    shares = [line["loader_share"] for line in metrics(tmp_path / "whole") if line["kind"] == "train"]
    assert all(0 < share < 1 for share in shares)
