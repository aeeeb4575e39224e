"""The command line from end to end: settings in, run directory out."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import vaenas
from tests.runs.command import TINY, assert_same_end, call, files, make_pictures, metrics, result
from vaenas import cli
from vaenas.data import ImageData
from vaenas.documents import read_yaml
from vaenas.networks.cost import additive_cost, count
from vaenas.networks.shufflenet import ShuffleNet
from vaenas.runs import search_run
from vaenas.runs.config import SearchConfig, make_config, option
from vaenas.runs.directory import NewRun
from vaenas.runs.search_run import SearchRun
from vaenas.spaces.shufflenet import ShuffleNetGeometry, shufflenet_space

GEOMETRY = ShuffleNetGeometry(16, 3, 3, width=0.25, layers=5)  # of TINY on the pictures
FILES = {"environment.json", "config.yaml", "metrics.jsonl", "checkpoint", "result.json", "drawing.json", "report.html"}
FILES |= {"scores"}

OTHERS: dict[str, Any] = {  # a value for each setting; not the default, where another has an effect
    "space": "shufflenet", "method": "one-shot", "sampler": "vae", "data": "cifar10", "data_root": "/place",
    "download": True, "skip_bad_images": False, "background": "white",
    "workers": 0, "image_size": 32, "seed": 3, "device": "cpu",
    "precision": "bf16-mixed", "width": 0.5, "layers": 15, "max_flops": 1500, "max_params": 2500, "max_latency": 1.5,
    "full_cells": False,  # the only value in this space
    "epochs": 7, "batch_size": 9, "learning_rate": 0.2, "momentum": 0.8, "weight_decay": 0.5, "label_smoothing": 0.2,
    "clip_norm": 2.0, "padding": 3, "cutout": 5, "vae": "paper", "vae_interval": 0.5, "ranking_size": 5,
    "keep_ratio": 0.125, "vae_iterations": 11, "kl_weight": 0.75, "free_bits": 0.375, "epsilon_inc": 0.01,
    "epsilon_limit": 0.9, "surrogate_rounds": 2, "train_images": 50, "ranking_images": 99, "ranking_metric": "accuracy",
    "surrogate": "none", "recalibration_images": 77,
    "weights_learning_rate": 0.02, "weights_share": 0.5, "population": 12, "generations": 2,
    "top_k": 4, "mutation_prob": 0.3, "table": "/truth", "table_sample": 40, "log_interval": 6,
    "checkpoint_seconds": 3.5,
}  # fmt: skip


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures, and a cache beside them."""
    root = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAENAS_CACHE", str(root / "cache"))
        yield make_pictures(root / "pictures")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """A whole search by the command line."""
    path = tmp_path_factory.mktemp("run") / "new" / "run"
    assert call("search", "--data", pictures, "--output", path, *TINY) == 0
    return path


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[SearchConfig]:
    """The settings that the command line would run, in place of running them."""
    configs: list[SearchConfig] = []
    monkeypatch.setattr(cli, "_run", lambda settings, *_, **__: configs.append(settings))
    return configs


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--version") == 0
    assert capsys.readouterr().out == f"{vaenas.__version__}\n"


def test_help_lists_every_setting_its_meaning_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("search", "--help") == 0
    words = " ".join(capsys.readouterr().out.split())
    for name, field in SearchConfig.model_fields.items():
        assert option(name) in words
        assert str(field.description)[:20] in words
    assert "of supernet training [8]" in words


def test_without_a_command_it_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    call()
    captured = capsys.readouterr()
    assert "Commands:\n  search" in captured.out + captured.err


def test_every_setting_comes_from_yaml_or_the_command_line_which_comes_first(
    tmp_path: Path, told: list[SearchConfig]
) -> None:
    assert OTHERS.keys() == SearchConfig.model_fields.keys()
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump(OTHERS))
    options: list[str] = []
    for name, value in OTHERS.items():
        flag = option(name) if value is not False else option(name).replace("--", "--no-", 1)
        options += [flag] if isinstance(value, bool) else [flag, str(value)]
    assert call("search", "--config", file) == call("search", *options) == 0
    assert told[0] == told[1]
    assert told[0].model_dump() == OTHERS
    assert call("search", "--config", file, "--epochs", 8, "--no-download", "--seed", "5") == 0
    assert told[2].model_dump() == {**OTHERS, "epochs": 8, "download": False, "seed": 5}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("300M", 300_000_000), ("1.5G", 1_500_000_000), ("300000000", 300_000_000), ("12k", 12_000), ("0.5 m", 500_000)],
)
def test_counts(text: str, expected: int, tmp_path: Path, told: list[SearchConfig]) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(f"max_params: {text}\n")
    assert call("search", "--max-flops", text, "--config", file) == 0
    assert (told[0].max_flops, told[0].max_params) == (expected, expected)


def test_a_run_leaves_these_files(run: Path, pictures: Path) -> None:
    found = files(run)
    events = {name for name in found if name.startswith("tensorboard/events")}
    assert found.keys() - events == FILES
    assert events
    assert all(found.values())
    assert b"train/loss" in found[events.pop()]
    assert found["config.yaml"].decode().startswith(f"# vaenas {vaenas.__version__}\n")
    assert read_yaml(run / "config.yaml").keys() == SearchConfig.model_fields.keys()
    assert make_config({}, run / "config.yaml").data == str(pictures)
    assert [line["kind"] for line in metrics(run)] == (
        2 * [*13 * ["train"], "update", "train"] + 3 * ["surrogate"] + ["comparison"]
    )


def test_the_result(run: Path) -> None:
    """Its keys are the promised ones; the best is on the front, which nothing dominates; costs are the networks'."""
    found = result(run)
    assert found.keys() >= {"space", "method", "sampler", "seed", "best", "pareto", "evaluated", "version"}
    assert (found["space"], found["method"], found["sampler"]) == ("shufflenet", "one-shot", "vae")
    assert (found["seed"], found["version"]) == (0, vaenas.__version__)
    front, evaluated = found["pareto"], [(e["predicted_score"], e["flops"]) for e in found["evaluations"]]
    assert found["evaluated"] == len(evaluated) >= 18
    assert found["best"]["predicted_score"] == max(predicted for predicted, _ in evaluated)
    assert found["best"]["predicted_score"] == max(entry["predicted_score"] for entry in front)
    for a, f in evaluated:  # what is not on the front is dominated, what is on it is not
        dominated = any(b >= a and g <= f and (b > a or g < f) for b, g in evaluated)
        assert dominated != any((a, f) == (entry["predicted_score"], entry["flops"]) for entry in front)
    for entry in [found["best"], *front]:
        assert_costs_are_the_networks(entry)


def assert_costs_are_the_networks(entry: dict[str, Any]) -> None:
    assert entry.keys() == {"architecture", "code", "score", "predicted_score", "flops", "params"}
    assert shufflenet_space(5).decode([entry["code"]]).tolist() == [entry["architecture"]]
    network = ShuffleNet(GEOMETRY, [[operation] for operation in entry["architecture"]]).eval()
    assert count(network, torch.zeros(1, 3, 16, 16)) == (entry["flops"], entry["params"])


def test_limits_hold_for_all_that_is_ranked_or_returned(tmp_path: Path, pictures: Path) -> None:
    cost = additive_cost(lambda: ShuffleNet(GEOMETRY))
    costs = cost(torch.cartesian_prod(*5 * [torch.arange(4)]))
    limit = int(costs.flops.sort().values[150])  # 151 of 1024 keep it
    heavy = int(costs.params.median())
    words = ["--max-flops", limit, "--max-params", heavy]
    assert call("search", "--data", pictures, "--output", tmp_path / "run", *TINY, *words) == 0
    found = result(tmp_path / "run")
    assert all(entry["flops"] <= limit for entry in found["evaluations"])
    for entry in [found["best"], *found["pareto"]]:
        assert entry["params"] <= heavy
        assert_costs_are_the_networks(entry)
    for line in metrics(tmp_path / "run"):
        assert all(flops <= limit for flops in line.get("flops", []))


def test_one_seed_one_result(run: Path, tmp_path: Path, pictures: Path) -> None:
    """`config.yaml` alone repeats a run to the bit; another seed gives another."""
    assert call("search", "--config", run / "config.yaml", "--output", tmp_path / "again") == 0
    assert_same_end(run, tmp_path / "again")
    short = ["--epochs", 2, "--generations", 1]
    assert call("search", "--config", run / "config.yaml", "--output", tmp_path / "other", "--seed", 1, *short) == 0
    assert metrics(run)[0]["loss"] != metrics(tmp_path / "other")[0]["loss"]
    assert result(run)["evaluations"] != result(tmp_path / "other")["evaluations"]


def test_a_report_can_be_written_again(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = run / "report.html"
    page.unlink()
    assert call("report", run) == 0
    assert capsys.readouterr().out.strip() == str(page)
    assert page.stat().st_size > 10_000


def test_training_and_ranking_images_are_disjoint(tmp_path: Path, pictures: Path) -> None:
    """The rows that do not train are those that rank; recalibration takes training images."""
    config = make_config({"data": str(pictures), "image_size": 16, "ranking_images": 30, "recalibration_images": 32})
    made = SearchRun(config, NewRun(tmp_path / "run"))
    training, everything = made.images.training, made.data.train
    left = torch.ones(len(everything), dtype=torch.bool)
    left[training.rows] = False
    assert len(training) == len(training.rows.unique()) == 120
    images, labels = everything.batch(left.nonzero().flatten())
    [(ranking, ranking_labels)] = made.saved_scores.evaluate.ranking
    assert torch.equal(ranking, images)
    assert torch.equal(ranking_labels, labels)
    assert labels.bincount().tolist() == [10, 10, 10]
    [(recalibration, _)] = made.saved_scores.evaluate.recalibration
    assert torch.equal(recalibration, everything.batch(training.rows[:32])[0])


def test_the_defaults_fit_a_small_folder(tmp_path: Path, pictures: Path) -> None:
    images = SearchRun(make_config({"data": str(pictures), "image_size": 16}), NewRun(tmp_path / "run")).images
    assert (len(images.training), len(images.ranking), images.recalibration) == (120, 30, 120)


def test_the_test_set_stays_untouched(
    run: Path, tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bits come out whatever it is."""
    load_data = search_run.load_data

    def without_test(*args: Any) -> ImageData:
        data = load_data(*args)
        assert data.test is not None
        return dataclasses.replace(data, test=dataclasses.replace(data.train, labels=data.train.labels.flip(0)))  # type: ignore[type-var]

    monkeypatch.setattr(search_run, "load_data", without_test)
    assert call("search", "--data", pictures, "--output", tmp_path / "run", *TINY) == 0
    assert_same_end(run, tmp_path / "run")
