"""Both methods on both image spaces, with each of their samplers: one command, the same limits, the same resumption."""

import json
from itertools import islice
from pathlib import Path

import pytest
import torch

from tests.runs.command import TINY, assert_same_end, call, metrics, result
from vaenas.runs.config import SearchConfig
from vaenas.runs.directory import NewRun, RunDirectory
from vaenas.runs.search_run import SearchRun
from vaenas.runs.settings import make, nested, without_effect
from vaenas.search.search import BOUNDARIES

COMMON = {
    "data.image_size": 16, "supernet.epochs": 2, "supernet.batch_size": 12, "ranking.images": 30,
    "ranking.recalibration_images": 24, "update.vae_interval": 1, "update.ranking_size": 5, "vae.iterations": 5,
    "evolution.population": 4, "evolution.generations": 2, "evolution.top_k": 2, "evolution.mutation_prob": 0.5,
    "log_interval": 1,
}  # fmt: skip
NASNET = {"space": "nasnet", "network.layers": 3, "network.width": 2, **COMMON}
SHUFFLENET = {"space": "shufflenet", "network.layers": 5, "network.width": 0.125, **COMMON}
SMALL = {"constraints.max_params": 6000}
PROXYLESS = {"method": "gradient", "gradient.arch_update": "two-path"}
DARTS = {"method": "gradient", "gradient.arch_update": "mixture"}
STOPPED = [  # tests/search stop each method and update at many records
    {**NASNET, "method": "one-shot", "sampler": "vae", **SMALL},
    {**SHUFFLENET, **PROXYLESS},
]
CASES = [
    *STOPPED,
    {**NASNET, "method": "gradient", "sampler": "vae", **SMALL},
    {**NASNET, **PROXYLESS},
    {**NASNET, "method": "one-shot", "sampler": "uniform", **SMALL},
    {**NASNET, **DARTS},
    {**SHUFFLENET, "method": "gradient", "sampler": "categorical"},
    {**SHUFFLENET, **DARTS},
]


def configuration(case: dict) -> SearchConfig:
    """Without what the method or the sampler would have no use for, which is refused."""
    idle = without_effect(SearchConfig.model_validate(nested(case)))
    return make(SearchConfig, {path: value for path, value in case.items() if path not in idle})


def title(case: dict) -> str:
    return "-".join(str(case.get(name, "")) for name in ("space", "method", "sampler", "gradient.arch_update"))


@pytest.mark.parametrize("case", CASES, ids=title)
def test_every_combination_searches_keeps_its_limits_and_resumes(case: dict, pictures: Path, tmp_path: Path) -> None:
    config = configuration({"data.source": str(pictures), **case})
    whole = SearchRun(config, NewRun(tmp_path / "whole"))
    records = list(whole.records())
    kinds = [record.kind for record in records]

    # Stopped at the first record of each kind, where kinds meet; it goes on from the last boundary.
    folder, boundary = tmp_path / "stopped", 0
    stops = [*sorted({kinds.index(kind) + 1 for kind in kinds}), len(kinds)] if case in STOPPED else []
    for i, stop in enumerate(stops):
        run = SearchRun(config, RunDirectory.open(folder, "search") if i else NewRun(folder))
        told = [
            record.kind for record in (run.records() if stop == len(kinds) else islice(run.records(), stop - boundary))
        ]
        assert told == kinds[boundary:stop]
        boundary = max((at for at in range(stop + 1) if at == 0 or kinds[at - 1] in BOUNDARIES), default=0)
        if stop < len(kinds):
            run.save()
        del run  # and the lock with it
    if stops:
        assert_same_end(tmp_path / "stopped", tmp_path / "whole")

    found = result(tmp_path / "whole")
    best = torch.tensor([found["best"]["architecture"]])
    assert bool(whole.image_space.space.is_valid(best)[0])
    network = whole.image_space.network(best[0])
    assert found["best"]["params"] == sum(p.numel() for p in network.parameters())
    assert found["best"]["params"] <= (config.constraints.max_params or 10**9)
    assert found["network"]["layers"] == config.network.layers


def test_diversity_stands_in_the_metrics(pictures: Path, tmp_path: Path) -> None:
    case = {**NASNET, **PROXYLESS, "data.source": str(pictures)}
    list(SearchRun(configuration(case), NewRun(tmp_path / "run")).records())
    lines = [line for line in metrics(tmp_path / "run") if line["kind"] == "weights"]
    assert [line["epoch"] for line in lines] == [1, 2]
    for line in lines:
        assert len(line["entropy_of_weights"]) == 28
        assert 0 <= line["parameter_free"] <= 1
        assert line["params"] > 0
    assert lines[0]["distinct_so_far"] < lines[1]["distinct_so_far"] <= 2 * 60 // 12  # one a step, nearly all new
    found = json.loads((tmp_path / "run" / "result.json").read_text())
    assert found["best"]["architecture"] == lines[-1]["derived"]
    assert found["best"]["params"] == lines[-1]["params"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--space", "nasnet", "--sampler", "fair"], "--sampler: fair needs a space without rules"),
        (["--gradient.arch-update", "mixture"], "--gradient.arch-update: has no effect without method gradient"),
        (["--space", "nasnet", "--width", "8.5"], "--width: 8.5 does not fit: space nasnet takes even numbers"),
        (["--space", "nasnet", "--layers", "2"], "--layers: 2 does not fit: space nasnet has reductions"),
        (["--space", "nasnet", "--width", "2", "--layers", "3", "--max-params", "100"], "--max-params 100: nothing in"),
        (["--train-images", "121"], "--train-images 121: there are only 120 after 30 for ranking"),
        (
            ["--method", "gradient", "--gradient.arch-data-fraction", "0.95"],
            "--batch-size 16: only 6 images are left to train on",
        ),
        (
            ["--gradient.arch-data-fraction", "1"],
            "--gradient.arch-data-fraction: '1' is not allowed: must be less than 1",
        ),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(
    words: list[str], said: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [w for w in TINY if w not in ("--layers", "--width", "5", "0.25")] if "nasnet" in words else TINY
    if "gradient" in words:
        given = TINY[:4] + TINY[TINY.index("--update.ranking-size") :]
    assert call("search", "--data", pictures, "--output", tmp_path / "run", *given, *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "run").exists()
