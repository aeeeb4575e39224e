"""`vaenas rank`: what a finished search says of architectures that the user names."""

import itertools
import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.runs.command import call
from vaenas.runs.config import SearchConfig
from vaenas.runs.directory import RunDirectory
from vaenas.runs.search_run import SearchRun
from vaenas.runs.settings import make
from vaenas.search.one_shot import OneShot
from vaenas.search.surrogate import SurrogateSearch


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def test_what_the_search_has_found_is_ranked_as_it_was_found(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same score, predicted score and costs to the bit, the best first; a code that was never evaluated, too."""
    before = {file: file.read_bytes() for file in run.iterdir() if file.is_file()}
    result = json.loads((run / "result.json").read_text())
    known = {entry["code"]: entry for entry in result["pareto"]}
    (run / "codes").write_text("\n".join([*known, "3-3-33-3"]) + "\n")
    capsys.readouterr()
    assert call("rank", run, "--codes", run / "codes", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    predicted = [row["predicted_score"] for row in rows]
    assert predicted == sorted(predicted, reverse=True)
    assert {row["code"] for row in rows} == {*known, "3-3-33-3"}
    for row in rows:
        assert {"expressivity", "meco", "swap"} < row.keys()
        for name in ("score", "predicted_score", "flops", "params"):
            assert row["code"] not in known or row[name] == pytest.approx(known[row["code"]][name], rel=1e-6)
    changed = [file.name for file, content in before.items() if file.read_bytes() != content]
    assert changed in ([], ["scores"])
    assert call("rank", run, "x-x-xx-x") == 0
    assert "x-x-xx-x" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{run}"], "give architectures' codes"),
        (["{run}", "77"], "architecture '77': space shufflenet writes 5 operations as ?-?-??-?"),
        (["{run}/nothing", "3-3-33-3"], "there is no such folder"),
        (["{run}", "--codes", "{run}/nothing"], "nothing"),
        (["3-3-33-3", "3-3-33-3"], "there is no such folder; give that of a finished search"),
    ],
)
def test_bad_input(words: list[str], message: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("rank", *(word.format(run=run) for word in words)) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_an_unfinished_search_is_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "result.json").unlink()
    assert call("rank", run, "3-3-33-3") == 2
    assert "no result.json: the search has not ended" in capsys.readouterr().err


def test_for_another_budget_the_best_of_the_whole_space_is_chosen(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """1,024 architectures: all are asked, and the best predicted that keeps the budget is the one chosen."""
    capsys.readouterr()
    assert call("choose", run, "--max-flops", "290K", "--max-params", "85K", "-n", "3", "--json") == 0
    chosen = json.loads(capsys.readouterr().out)
    assert len(chosen) == 3
    assert all(row["flops"] <= 290_000 and row["params"] <= 85_000 for row in chosen)
    search = SearchRun(make(SearchConfig, {}, run / "config.yaml"), RunDirectory.open(run, "search"))
    every = torch.tensor(list(itertools.product(range(4), repeat=5)))
    assert isinstance(search.search, OneShot)
    assert isinstance(search.search.final, SurrogateSearch)
    predicted, costs = search.search.final.surrogate()(every), search.cost(every)
    feasible = (costs.multiply_adds <= 290_000) & (costs.params <= 85_000)
    assert 50 < int(feasible.sum()) < 1000
    best = predicted[feasible].sort(descending=True).values[:3].tolist()
    assert [row["predicted_score"] for row in chosen] == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-flops", "10"], "--max-flops 10: nothing in space shufflenet is that small; the cheapest"),
        (["--max-flops", "few"], "'few' is not allowed"),
    ],
)
def test_an_impossible_budget(words: list[str], message: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("choose", run, *words) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
