"""Scores that stand in a file as soon as they are known: never computed twice, never those of other weights."""

from pathlib import Path

import pytest
import torch

from tests.runs.command import assert_same_end
from tests.shared_fixtures import tiny_problem, tiny_trainer
from vaenas.evaluation.supernet import SupernetEvaluator
from vaenas.runs.config import SearchConfig
from vaenas.runs.directory import NewRun, RunDirectory
from vaenas.runs.saved_scores import SavedScores
from vaenas.runs.search_run import SearchRun
from vaenas.runs.settings import make
from vaenas.search import evaluated_set
from vaenas.spaces.space import Population, Scores

SPACE = tiny_problem().space


class Counting:
    """Scores by a formula, and how many it was asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, population: Population) -> Scores:
        self.asked += len(population)
        return (population.float() @ torch.tensor([0.1, 0.02, 0.003, 0.0004, 0.00005])).sin()


def saved_scores(file: Path, seed: int = 0, steps: int = 0) -> tuple[SavedScores, Counting]:
    """Of a supernet after some steps, as a run has them that begins or goes on."""
    trainer, evaluate = tiny_trainer(tiny_problem(seed), torch.Generator().manual_seed(0)), Counting()
    for _ in range(steps):
        trainer.step(torch.zeros(SPACE.slots, dtype=torch.int64))
    saved = SavedScores(evaluate, trainer)
    saved.open(file)
    return saved, evaluate


@pytest.fixture
def population(rng: torch.Generator) -> Population:
    return SPACE.uniform(200, rng).unique(dim=0)[:60]


def test_what_was_scored_before_a_kill_comes_back_to_the_same_bits(population: Population, tmp_path: Path) -> None:
    first, evaluate = saved_scores(tmp_path / "scores")
    expected = [first(part) for part in population[:40].split(16)]
    again, other = saved_scores(tmp_path / "scores")
    assert torch.equal(again(population[:40]), torch.cat(expected))
    assert (evaluate.asked, other.asked) == (40, 0)
    again(population[30:])
    assert other.asked == 20  # the rest, each once
    third, none = saved_scores(tmp_path / "scores")
    assert torch.equal(third(population), Counting()(population))
    assert none.asked == 0


@pytest.mark.parametrize("other", [{"seed": 1}, {"steps": 1}])
def test_scores_of_other_weights_or_another_step_are_not_taken(
    other: dict[str, int], population: Population, tmp_path: Path
) -> None:
    saved_scores(tmp_path / "scores")[0](population)
    saved, evaluate = saved_scores(tmp_path / "scores", **other)
    saved(population)
    assert evaluate.asked == len(population)
    saved.trainer.step(population[0])
    saved(population)
    assert evaluate.asked == 2 * len(population)  # the same in one run


@pytest.mark.parametrize("cut", [1, 100, 2000])
def test_a_torn_or_altered_line_is_scored_again_and_the_others_stay(
    cut: int, population: Population, tmp_path: Path
) -> None:
    first, _ = saved_scores(tmp_path / "scores")
    for part in population[:32].split(16):
        first(part)
    content = (tmp_path / "scores").read_text()
    (tmp_path / "scores").write_text(content[:-cut].replace("[[", "[ [", 1) if cut == 100 else content[:-cut])
    saved, evaluate = saved_scores(tmp_path / "scores")
    assert torch.equal(saved(population[:32]), Counting()(population[:32]))
    lost = evaluate.asked
    assert lost == {1: 16, 100: 32, 2000: 32}[cut]
    again, other = saved_scores(tmp_path / "scores")
    again(population[:32])
    assert other.asked == 0  # what follows a torn line is found again


def test_a_ranking_that_is_stopped_asks_for_the_rest_alone(
    pictures: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at the second of three records of a ranking, which is no boundary; then on to the same end."""
    monkeypatch.setattr(evaluated_set, "TOGETHER", 2)
    asked: list[Population] = []
    call_it = SupernetEvaluator.__call__
    monkeypatch.setattr(SupernetEvaluator, "__call__", lambda self, rows: asked.append(rows) or call_it(self, rows))
    config = make(SearchConfig, {}, finished / "config.yaml")
    run = SearchRun(config, NewRun(tmp_path / "run"))
    rankings = (record for record in run.records() if record.values.get("of") == "ranking")
    assert [next(rankings).values["done"] for _ in range(2)] == [2, 4]
    run.save()  # which the record is no place for
    assert run.search.step == 13
    del run, rankings
    before = len(asked)
    for _ in SearchRun(config, RunDirectory.open(tmp_path / "run", "search")).records():
        pass
    rows = torch.cat(asked[: before + 1])
    assert len(rows) == len(rows.unique(dim=0)) == config.update.ranking_size
    assert_same_end(tmp_path / "run", finished)
