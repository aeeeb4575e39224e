"""Table 4: the best of K, trials, the summary; what the command refuses."""

from itertools import combinations
from pathlib import Path

import pytest
import torch

from tests.runs.command import call
from vaenas.bench.table4 import NOISES, RANDOM, ROWS, summarise, trial
from vaenas.bench.task import BEST_OF, Task, best_of
from vaenas.blackbox.predictor import Guided
from vaenas.evaluation.tabular import TabularBenchmark
from vaenas.samplers.categorical import CategoricalSampler, CategoricalSettings
from vaenas.spaces.space import SearchSpace, draw_valid


@pytest.fixture(scope="module")
def task(nasbench101_table: Path) -> Task:
    return Task(TabularBenchmark.open(nasbench101_table))


PLAIN = SearchSpace("plain", ("abcde",) * 6, (6,))


def test_best_of_k_is_the_mean_over_all_choices() -> None:
    values = torch.tensor([0.3, 0.9, 0.1, 0.5, 0.4, 0.4, 0.8])
    for k in range(1, 8):
        bests = [max(chosen) for chosen in combinations(values.tolist(), k)]
        assert best_of(values, k) == pytest.approx(sum(bests) / len(bests), abs=1e-6)


def test_a_guided_sampler_draws_what_the_labels_say_is_good(rng: torch.Generator) -> None:
    """Two slots must agree: no product of frequencies can draw that, a predictor can refuse the rest."""
    space = PLAIN
    population = space.uniform(400, rng)
    scores = (population[:, 0] == population[:, 5]).float()
    guided = Guided(CategoricalSampler(space, CategoricalSettings(keep_ratio=0.25)), share=0.2)
    assert guided.is_feasible(population).all()  # before any label: plain draws
    guided.update(population, scores, rng)
    drawn = draw_valid(lambda m: guided.sampler.sample(m, rng), guided.is_feasible, 500)
    plain = guided.sampler.sample(500, rng)
    agree = [float((p[:, 0] == p[:, 5]).float().mean()) for p in (drawn, plain)]
    assert agree[0] > 0.95
    assert agree[1] < 0.5


def test_noise_is_smoothed_before_the_top_k_are_chosen() -> None:
    """A fifth of the architectures is better by 2 standard deviations of the noise: all of the top tenth should be."""
    space, shares = PLAIN, {False: 0.0, True: 0.0}
    for seed in range(3):
        rng = torch.Generator().manual_seed(seed)
        population = space.uniform(1000, rng)
        labels = (population[:, 0] == 2).float() + 0.5 * torch.randn(1000, generator=rng)
        for guide in shares:
            plain = CategoricalSampler(space, CategoricalSettings(keep_ratio=0.1, smoothing=1.0))
            sampler = Guided(plain) if guide else plain
            sampler.update(population, labels, rng)
            shares[guide] += float(plain.probabilities[0, 2]) / 3
    assert shares[True] > 0.9
    assert shares[True] > shares[False] + 0.05


def test_trials_and_their_summary(task: Task) -> None:
    """Guided draws are better than random ones, at 0.5 % noise, too; every row and noise has its place."""
    random, guided = trial(task, RANDOM, 0.0, 0, 60), trial(task, "categorical_guided", 0.005, 0, 60)
    assert set(random.best_of) == {"10", "50"}
    assert random.seven_vertices < 0.03 < guided.seven_vertices
    assert guided.best_of["10"] > random.best_of["50"]
    for result in (random, guided):
        assert len(result.accuracies) == 60
        assert max(result.best_of.values()) <= result.evolution + 0.01 <= task.optimum + 0.01
    jobs = [(row, noise, seed) for row in ROWS for noise in NOISES for seed in (0, 1)]
    results = [
        (random if row == RANDOM else guided).model_copy(update={"row": row, "noise": noise, "seed": seed})
        for row, noise, seed in jobs
        if row != RANDOM or noise == 0
    ]
    summary = summarise(task, results)
    assert set(summary["rows"]) == set(ROWS)
    assert set(summary["rows"]["vae"]) == {"noise_0", "noise_0.1", "noise_0.5"}
    assert summary["rows"]["vae"]["noise_0.5"]["10"] == {"mean": pytest.approx(guided.best_of["10"]), "ci95": 0.0}
    gained = (guided.best_of["50"] - random.best_of["50"]) / (task.optimum - random.best_of["50"])
    assert summary["gap_closed"]["vae"]["noise_0"]["50"] == pytest.approx(gained)
    assert summary["ahead_of_categorical"]["vae"]["noise_0"]["10"]["mean"] == 0
    assert BEST_OF == (10, 50, 100, 300)


def test_bad_options(
    nasbench101_table: Path, macro_table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "output"
    for table, more, said in (
        (macro_table, [], "a table of space macro; nasbench101 is needed"),
        (nasbench101_table, ["--samplers", "0"], "--samplers 0: at least 1"),
        (nasbench101_table, ["--draws", "9"], "--draws 9: at least 10"),
        (nasbench101_table, ["--workers", "0"], "--workers 0: at least 1"),
    ):
        capsys.readouterr()
        assert call("bench", "table4", "--table", table, "--output", output, *more) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert said in lines[0]
    assert not output.exists()
