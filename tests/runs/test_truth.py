"""A search whose space has a table: truth afterwards, and a search that never saw it."""

import json
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
import torch

from tests.runs.command import assert_same_end, call, metrics, result
from tests.runs.test_combinations import COMMON, configuration
from vaenas.bench.task import BEST_OF, best_of
from vaenas.evaluation.rank import kendall_tau
from vaenas.evaluation.tabular import TabularBenchmark
from vaenas.runs.directory import NewRun, RunDirectory
from vaenas.runs.search_run import SearchRun
from vaenas.spaces.cells import embed, is_full
from vaenas.spaces.nasbench101 import NASBench101Space

MACRO = {"space": "macro", "network.width": 0.125, "table.sample": 24, **COMMON}
OF101 = {"space": "nasbench101", "network.width": 5, "network.layers": 1, "table.sample": 24, **COMMON}


@pytest.fixture(scope="module")
def sparse_table(cells_parquet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some cells of NAS-Bench-101, most of those with 7 vertices labelled."""
    rows = parquet.read_table(cells_parquet)
    numbers = [torch.tensor(rows[name].to_numpy().copy()) for name in ("vertices", "edge_bits", "val_acc_108ep")]
    population = embed(numbers[0].long(), numbers[1].long(), rows["ops"].to_pylist())
    space, labels = NASBench101Space(), numbers[2]
    wanted = ~labels.isnan() & is_full(population) & space.is_valid(population)
    chosen = torch.cat([wanted.nonzero()[:, 0], labels.isnan().nonzero()[:500, 0]])
    table = TabularBenchmark.of(
        space, population[chosen], (108,), labels[chosen][:, None, None].float(), source="cells", measured="validation"
    )
    table.save(path := tmp_path_factory.mktemp("tables") / "cells.table")
    return path


def test_the_truth_is_the_tables_and_the_search_never_saw_it(macro_table: Path, pictures: Path, tmp_path: Path) -> None:
    """With and without a table: the same losses, populations, scores, answer."""
    for name, more in (("with", {"table.path": str(macro_table)}), ("without", {})):
        run = SearchRun(configuration({**MACRO, "data.source": str(pictures), **more}), NewRun(tmp_path / name))
        kinds = [record.values.get("of") for record in run.records()]
        assert ("truth" in kinds) == bool(more)
    lines = {name: metrics(tmp_path / name) for name in ("with", "without")}
    assert [{k: v for k, v in line.items() if k != "draws"} for line in lines["with"]] == lines["without"]
    found, plain = result(tmp_path / "with"), result(tmp_path / "without")
    assert found["best"] == plain["best"]
    assert plain["truth"] is None

    truth, table = found["truth"], TabularBenchmark.open(macro_table)
    every = table.validation(table.population)
    best = table.validation(table.space.decode([truth["best"]["code"]]))
    assert truth["best"]["code"] == found["best"]["code"]
    assert truth["best"]["accuracy"] == pytest.approx(float(best))
    assert truth["best"]["rank"] == 1 + int((every > best).sum())
    assert truth["optimum"] == pytest.approx(float(every.max()))
    sample = [torch.tensor(truth["sample"][name]) for name in ("scores", "truth")]
    assert len(sample[0]) == 24
    assert truth["kendall"] == pytest.approx(kendall_tau(*sample))
    assert -1 <= truth["surrogate"]["kendall"] <= 1
    updates = [line for line in lines["with"] if line["kind"] == "update"]
    assert [draw["n"] for draw in truth["draws"]] == [300] * len(updates)
    mean = table.validation(table.space.decode(updates[-1]["draws"])).mean()
    assert truth["draws"][-1]["mean"] == pytest.approx(float(mean))
    for name in ("best_of", "uniform_best_of"):
        values = list(truth[name].values())
        assert list(truth[name]) == [str(k) for k in BEST_OF]
        assert values == sorted(values)
        assert truth["mean"] - 0.1 < values[0] <= values[-1] <= truth["optimum"]
    assert call("report", tmp_path / "with") == 0
    assert "What the table says" in (tmp_path / "with" / "report.html").read_text()


def test_stopped_while_the_sample_is_ranked_it_ends_alike(macro_table: Path, pictures: Path, tmp_path: Path) -> None:
    config = configuration(
        {**MACRO, "data.source": str(pictures), "table.path": str(macro_table), "sampler": "uniform"}
    )
    list(SearchRun(config, NewRun(tmp_path / "whole")).records())
    run = SearchRun(config, NewRun(tmp_path / "stopped"))
    for record in run.records():
        if record.values.get("of") == "truth":
            run.save()
            break
    assert 0 < record.values["done"] < 24
    del run
    list(SearchRun(config, RunDirectory.open(tmp_path / "stopped", "search")).records())
    assert_same_end(tmp_path / "stopped", tmp_path / "whole")
    assert result(tmp_path / "stopped")["truth"] == result(tmp_path / "whole")["truth"]


def test_where_few_are_labelled_only_those_count(sparse_table: Path, pictures: Path, tmp_path: Path) -> None:
    more = {"data.source": str(pictures), "table.path": str(sparse_table), "sampler": "categorical", "full_cells": True}
    run = SearchRun(configuration({**OF101, **more}), NewRun(tmp_path / "run"))
    updates, trained = [], []
    for record in run.records():
        if record.kind == "update":
            updates.append(record.values["population"])
        trained.append(run.search.ahead.rows)
    assert updates
    assert is_full(torch.tensor(updates).flatten(0, 1)).all()  # what is ranked
    assert is_full(torch.cat(trained)).all()
    assert is_full(run.found.population).all()  # what may be returned
    truth = result(tmp_path / "run")["truth"]
    assert "7-vertex" in truth["measured"]
    assert 18_000 < truth["architectures"] < 22_000
    assert all((draw["n"] == 0) == (draw["mean"] is None) for draw in truth["draws"])
    assert truth["best_of"] is None or list(truth["best_of"]) == [str(k) for k in BEST_OF]


def test_of_a_table_without_every_architecture_what_is_missing_does_not_count(
    macro_table: Path, pictures: Path, tmp_path: Path
) -> None:
    """The answer is in one half of the table; with the other the report says so, and of which network it speaks."""
    table, said = TabularBenchmark.open(macro_table), []
    for first in (0, 1):
        part, run = table.population[first::2], tmp_path / f"run-{first}"
        labels = table.validation(part)[:, None, None]
        half = TabularBenchmark.of(table.space, part, table.budgets, labels, source="half", measured="accuracy")
        half.save(tmp_path / f"half-{first}.table")
        more = {
            "data.source": str(pictures),
            "table.path": str(tmp_path / f"half-{first}.table"),
            "sampler": "categorical",
        }
        list(SearchRun(configuration({**MACRO, **more}), NewRun(run)).records())
        found = result(run)
        truth = found["truth"]
        assert truth["architectures"] == len(part)
        assert all(draw["n"] < 300 for draw in truth["draws"])
        assert call("report", run) == 0
        page = " ".join((run / "report.html").read_text().split())
        assert f"The network found, {found['best']['code']}," in page
        same = truth["best"]["code"] == found["best"]["code"]
        assert ("is not in the table. Of what the search has evaluated and the table knows, " in page) != same
        said.append(same)
    assert sorted(said) == [False, True]


def test_a_table_that_knows_hardly_any_draw_is_refused(
    sparse_table: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--space", "nasbench101", "--data", pictures, "--table", sparse_table, "--output", tmp_path / "run"]
    assert call("search", *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "labelled in part" in line
    assert "--full-cells" in line
    assert not (tmp_path / "run").exists()


def test_the_best_of_k_uniform_draws() -> None:
    truth = torch.rand(50, generator=torch.Generator().manual_seed(0))
    orders = torch.rand(20_000, 50, generator=torch.Generator().manual_seed(1)).argsort(1)
    drawn = truth[orders[:, :10]].amax(1)
    # standard error 0.0007: five of them, one false alarm in a million
    assert best_of(truth, 10) == pytest.approx(float(drawn.mean()), abs=0.0035)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--space", "nasbench201"], "a table of space macro; nasbench201 is needed"),
        (["--space", "nasbench101", "--method", "gradient"], "--method: gradient needs slots that can be mixed"),
        (["--space", "macro", "--full-cells"], "--full-cells: nothing is pruned in space macro; leave it out"),
        (["--space", "nasbench101", "--max-latency", "8ms"], "--max-latency: 8 has no meaning in space nasbench101"),
        (["--space", "nasbench101", "--sampler", "fair"], "--sampler: fair needs a space without rules"),
        (["--space", "macro", "--layers", "9"], "layers: 9 does not fit: space macro has 8"),
        (["--space", "mine"], "--space: 'mine' is not allowed: must be shufflenet, nasnet, nasbench101"),
    ],
)
def test_bad_input(
    more: list[str], said: str, macro_table: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", pictures, "--table", macro_table, "--output", tmp_path / "run", *more]
    assert call("search", *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "run").exists()


def test_a_damaged_truth_is_named(macro_table: Path, pictures: Path, tmp_path: Path) -> None:
    config = configuration(
        {**MACRO, "data.source": str(pictures), "table.path": str(macro_table), "sampler": "uniform"}
    )
    list(SearchRun(config, NewRun(tmp_path / "run")).records())
    content = result(tmp_path / "run")
    content["truth"]["sample"] = {"scores": ["x"]}
    (tmp_path / "run" / "result.json").write_text(json.dumps(content))
    assert call("report", tmp_path / "run") == 2
