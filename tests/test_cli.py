"""The command line from end to end: settings in, run directory out."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import vaenas
from tests.runs.command import TINY, assert_same_end, call, environment, files, make_pictures, metrics, result
from vaenas.data.images import ImageData
from vaenas.data.subsets import Subset
from vaenas.documents import dotted, read_yaml
from vaenas.networks import NetworkConfig, space_class
from vaenas.networks.cost import count
from vaenas.runs import session
from vaenas.runs.config import SearchConfig
from vaenas.runs.directory import NewRun
from vaenas.runs.search_run import SearchRun
from vaenas.runs.settings import make, option, settings_of
from vaenas.samplers.settings import PAPER
from vaenas.search.settings import EvolutionSettings
from vaenas.spaces.shufflenet import shufflenet_space
from vaenas.training.config import TrainConfig

NETWORKS = space_class("shufflenet")(NetworkConfig(16, 3, 3, width=0.25, layers=5))  # of TINY on the pictures
FILES = {
    "environment.json", "config.yaml", "metrics.jsonl", "checkpoint", "scores", "result.json", "drawing.json",
    "report.html",
}  # fmt: skip

OTHERS: dict[str, Any] = {  # a value for each setting; not the default, where another has an effect
    "space": "shufflenet", "space_file": None, "method": "one-shot", "sampler": "vae", "preset": "paper", "seed": 3,
    "train_images": 50, "full_cells": False, "log_interval": 6, "checkpoint_seconds": 3.5,
    "network": {"width": 0.5, "layers": 15},
    "data": {
        "source": "cifar10", "root": "/place", "download": True, "skip_bad_images": False, "background": "white",
        "workers": 0, "image_size": 32,
    },
    "machine": {"device": "cpu", "precision": "bf16-mixed"},
    "constraints": {"max_flops": 1500, "max_params": 2500, "max_latency": 1.5},
    "supernet": {
        "epochs": 7, "batch_size": 9, "learning_rate": 0.2, "momentum": 0.8, "weight_decay": 0.5,
        "label_smoothing": 0.2, "clip_norm": 2.0, "padding": 3, "cutout": 5,
    },
    "update": {"vae_interval": 0.5, "ranking_size": 5, "epsilon_inc": 0.01, "epsilon_limit": 0.9},
    "vae": {
        "latent": 3, "hidden": 7, "embedding": 5, "keep_ratio": 0.125, "iterations": 11, "batch_size": 6,
        "learning_rate": 0.5, "kl_weight": 0.75, "free_bits": 0.375,
    },
    "categorical": {"keep_ratio": 0.5, "smoothing": 0.7, "floor": 0.02},  # K is the preset's
    "ranking": {"metric": "quadratic", "images": 99, "recalibration_images": 77},
    "surrogate": {"kind": "none", "rounds": 2},
    "evolution": {"population": 12, "generations": 2, "top_k": 4, "mutation_prob": 0.3},
    "gradient": {"arch_learning_rate": 0.02, "arch_data_fraction": 0.5, "arch_update": "path"},
    "table": {"path": "/truth", "sample": 40},
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
    monkeypatch.setattr("vaenas.commands.search.search_to_its_end", lambda settings, *_, **__: configs.append(settings))
    return configs


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--version") == 0
    assert capsys.readouterr().out == f"{vaenas.__version__}\n"


@pytest.mark.parametrize("words", ["--help", "search --help", "run --help", "train --help", "eval --help"])
def test_help_imports_nothing_heavy(words: str, tmp_path: Path) -> None:
    """Nor does what is wrong with a command line; torch alone takes seconds."""
    script = f"""
import sys
sys.argv = ["vaenas", *{words.split()}]
from vaenas import cli
try:
    cli.main()
finally:
    print([name for name in ("torch", "torchvision", "matplotlib", "numpy", "lightning_fabric") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment(tmp_path))
    assert done.stdout.endswith("\n[]\n"), done.stderr


def test_the_public_names_are_imported_when_they_are_asked_for() -> None:
    script = """
import sys, vaenas
assert "torch" not in sys.modules
assert [getattr(vaenas, name).__name__ for name in vaenas.__all__] == vaenas.__all__
assert not hasattr(vaenas, "nothing")
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_whole_search_from_python(tmp_path: Path, pictures: Path) -> None:
    settings = {
        "data": {"source": str(pictures), "image_size": 16}, "network": {"layers": 5, "width": 0.125},
        "supernet.epochs": 1, "evolution.population": 4, "evolution.generations": 2, "evolution.top_k": 2,
    }  # fmt: skip
    found = vaenas.run_search(settings, tmp_path / "run")
    best = result(tmp_path / "run")["best"]["code"]
    assert (found.space, found.network.layers, found.best.code) == ("shufflenet", 5, best)


def options_in(help_text: str) -> set[str]:
    return set(re.findall(r"^  (--[a-z.-]+)", help_text, re.MULTILINE))


def test_help_shows_the_common_settings_in_panels_their_meaning_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("search", "--help") == 0
    text = capsys.readouterr().out
    assert len(options_in(text) - {"--help"}) <= 25
    assert re.findall(r"^([A-Z].*):$", text, re.MULTILINE) == [
        "Options", "Search", "Space and limits", "Images", "Machine",
    ]  # fmt: skip
    assert "of supernet training [8]" in " ".join(text.split())


@pytest.mark.parametrize(
    ("command", "model"), [("search", SearchConfig), ("run", SearchConfig), ("train", TrainConfig)]
)
def test_help_all_shows_every_setting(
    command: str, model: type[SearchConfig | TrainConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(command, "--help-all") == 0
    text = capsys.readouterr().out
    assert {option(path) for path in settings_of(model)} <= options_in(text)
    words = " ".join(text.split())
    for field in settings_of(model).values():
        assert str(field.description)[:20] in words


def test_without_a_command_it_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    call()
    captured = capsys.readouterr()
    assert "Commands:\n  search" in captured.out + captured.err


def test_every_setting_comes_from_yaml_or_the_command_line_which_comes_first(
    tmp_path: Path, told: list[SearchConfig]
) -> None:
    assert dotted(OTHERS).keys() == settings_of(SearchConfig).keys()
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump(OTHERS))
    options: list[str] = []
    for path, value in dotted(OTHERS).items():
        if isinstance(value, bool):
            options.append(option(path) if value else option(path).replace("--", "--no-", 1))
        elif value is not None:
            options += [option(path), str(value)]
    assert call("search", "--config", file) == call("search", *options) == 0
    assert told[0] == told[1]
    assert told[0].model_dump() == OTHERS
    assert call("search", "--config", file, "--epochs", 8, "--no-data.download", "--seed", "5") == 0
    assert told[2].dotted() == {**dotted(OTHERS), "supernet.epochs": 8, "data.download": False, "seed": 5}


def test_the_paper_as_printed(told: list[SearchConfig]) -> None:
    """One preset: the VAE of eq. 2, ε up to 1, the accuracy of shared weights, the evolution of Guo et al."""
    assert call("search", "--preset", "paper") == call("search", "--preset", "paper", "--evolution.top-k", 3) == 0
    assert told[0].vae == PAPER
    assert (told[0].update.epsilon_limit, told[0].ranking.metric, told[0].surrogate.kind) == (1.0, "accuracy", "none")
    assert told[0].evolution == EvolutionSettings(population=50, generations=20, top_k=10, mutation_prob=0.1)
    assert told[1].evolution == EvolutionSettings(population=50, generations=20, top_k=3, mutation_prob=0.1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("300M", 300_000_000), ("1.5G", 1_500_000_000), ("300000000", 300_000_000), ("12k", 12_000), ("0.5 m", 500_000)],
)
def test_counts(text: str, expected: int, tmp_path: Path, told: list[SearchConfig]) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(f"constraints: {{max_params: {text}}}\n")
    assert call("search", "--max-flops", text, "--config", file) == 0
    assert (told[0].constraints.max_flops, told[0].constraints.max_params) == (expected, expected)


def test_a_run_leaves_these_files(run: Path, pictures: Path) -> None:
    found = files(run)
    events = {name for name in found if name.startswith("tensorboard/events")}
    assert found.keys() - events == FILES
    assert events
    assert all(found.values())
    assert b"train/loss" in found[events.pop()]
    assert found["config.yaml"].decode().startswith(f"# vaenas {vaenas.__version__}\n")
    assert read_yaml(run / "config.yaml").keys() == SearchConfig.model_fields.keys()
    assert make(SearchConfig, {}, run / "config.yaml").data.source == str(pictures)
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
    told = {name for name, value in entry.items() if value is not None}
    assert told == {"architecture", "code", "score", "predicted_score", "flops", "params"}
    assert shufflenet_space(5).decode([entry["code"]]).tolist() == [entry["architecture"]]
    network = NETWORKS.network(torch.tensor(entry["architecture"])).eval()
    assert count(network, torch.zeros(1, 3, 16, 16)) == (entry["flops"], entry["params"])


def test_limits_hold_for_all_that_is_ranked_or_returned(tmp_path: Path, pictures: Path) -> None:
    costs = NETWORKS.cost(torch.cartesian_prod(*5 * [torch.arange(4)]))
    limit = int(costs.multiply_adds.sort().values[150])  # 151 of 1024 keep it
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
    short = ["--epochs", 2, "--evolution.generations", 1]
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
    config = make(
        SearchConfig,
        {
            "data.source": str(pictures), "data.image_size": 16, "ranking.images": 30,
            "ranking.recalibration_images": 32,
        },
    )  # fmt: skip
    made = SearchRun(config, NewRun(tmp_path / "run"))
    training, everything = made.images.training, made.data.train
    assert isinstance(training, Subset)
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
    config = make(SearchConfig, {"data": {"source": str(pictures), "image_size": 16}})
    images = SearchRun(config, NewRun(tmp_path / "run")).images
    assert (len(images.training), len(images.ranking), images.recalibration) == (120, 30, 120)


def test_the_test_set_stays_untouched(
    run: Path, tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bits come out whatever it is."""
    load = session.load

    def without_test(*args: Any) -> ImageData:
        data = load(*args)
        assert data.test is not None
        return dataclasses.replace(data, test=dataclasses.replace(data.train, labels=data.train.labels.flip(0)))  # type: ignore[type-var]

    monkeypatch.setattr(session, "load", without_test)
    assert call("search", "--data", pictures, "--output", tmp_path / "run", *TINY) == 0
    assert_same_end(run, tmp_path / "run")
