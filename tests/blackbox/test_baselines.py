"""What every search by ask and tell keeps, the learned one and those to compare with."""

from functools import cache

import pytest
import torch

from vaenas.bench.curves import METHODS
from vaenas.bench.task import Task
from vaenas.blackbox.baselines import LocalSearch, RegularizedEvolution
from vaenas.evaluation.tabular import TabularBenchmark
from vaenas.spaces.space import ConstraintTooTight, Population, SearchSpace, rows_in

BASELINES = ("random", "evolution", "local", "tpe")
# Enough for an update of what learns, and for the first children of regularized evolution.
LABELS = {method: 60 if method in BASELINES else 25 for method in METHODS}


@cache
def task(slots: int, share: float = 1.0, runs: int = 1) -> Task:
    """A table of that share of the combinations of three operations in each slot; random scores."""
    rng = torch.Generator().manual_seed(1)
    space = SearchSpace("made", operations=("abc",) * slots, groups=(slots,))
    everything = torch.cartesian_prod(*[torch.arange(3)] * slots)
    kept = everything[torch.randperm(len(everything), generator=rng)[: round(share * len(everything))]]
    values = torch.rand(len(kept), 1, runs, generator=rng)
    return Task(TabularBenchmark.of(space, kept, (0,), values, source="made", measured="scores"))


TASKS = {"whole": (6, 1.0, 1), "2 %": (8, 0.02, 1), "noisy": (6, 1.0, 3)}


def asked(method: str, given: Task, labels: int, seed: int = 0) -> list[Population]:
    """The questions until there are so many labels."""
    if method == "tpe":
        pytest.importorskip("optuna")
    size, make = METHODS[method]
    rng = torch.Generator().manual_seed(seed)
    search, questions, told = make(given, rng), [], 0
    while told < labels:
        questions.append(search.ask(min(size, labels - told), given.is_feasible))
        search.tell(questions[-1], given.observe(questions[-1], rng))
        told += len(questions[-1])
    assert rows_in(search.best(), torch.cat(questions)).all()
    return questions


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("method", METHODS)
def test_answers_are_as_many_as_asked_for_valid_and_accepted(method: str, name: str) -> None:
    """And those of what learns are new in a table without noise, different in any one question."""
    given, size = task(*TASKS[name]), METHODS[method][0]
    whole, rest = divmod(LABELS[method], size)
    questions = asked(method, given, LABELS[method])
    assert [len(q) for q in questions] == [size] * whole + [rest] * (rest > 0)
    population = torch.cat(questions)
    assert population.dtype == torch.int64
    assert given.table.space.is_valid(population).all()
    assert given.table.known(population).all()
    if method not in BASELINES:
        for different in questions if given.noisy else [population]:
            assert len(different.unique(dim=0)) == len(different)


@pytest.mark.parametrize("method", BASELINES)
def test_without_noise_no_architecture_is_asked_for_twice(method: str) -> None:
    population = torch.cat(asked(method, task(*TASKS["2 %"]), 60))
    assert len(population.unique(dim=0)) == len(population)


@pytest.mark.parametrize("method", ["vae", "vae_paper", "categorical", *BASELINES])
def test_the_seed_decides_and_nothing_else(method: str) -> None:
    given = task(*TASKS["whole"])
    with torch.random.fork_rng():
        torch.manual_seed(1)
        one = torch.cat(asked(method, given, LABELS[method]))
        torch.manual_seed(2)
        assert torch.equal(torch.cat(asked(method, given, LABELS[method])), one)
    assert not torch.equal(torch.cat(asked(method, given, 10, seed=1)), one[:10])


@pytest.mark.parametrize("method", ["vae_alone", "categorical", *BASELINES])
def test_a_space_that_is_used_up_is_an_error(method: str) -> None:
    """All 27 architectures can be asked for, and no more."""
    given = task(3)
    assert len(torch.cat(asked(method, given, 27)).unique(dim=0)) == 27
    with pytest.raises(ConstraintTooTight):
        asked(method, given, 28)


@pytest.mark.parametrize("method", ["vae", "categorical"])
def test_a_noisy_table_may_be_smaller_than_a_question(method: str) -> None:
    """Eight architectures, each of which may be labelled again."""
    assert len(torch.cat(asked(method, task(2, 8 / 9, runs=2), 30))) == 30


def test_a_table_may_have_a_tiny_share_of_its_space(rng: torch.Generator) -> None:
    """A user's own table: 500 rows, ten columns of eight values each."""
    space = SearchSpace("own", operations=("abcdefgh",) * 10, groups=(10,))
    values = torch.rand(500, 1, 1, generator=rng)
    own = TabularBenchmark.of(space, space.uniform(500, rng), (0,), values, source="own", measured="scores")
    assert len(torch.cat(asked("random", Task(own), 20))) == 20


def count(population: Population) -> torch.Tensor:
    """A score without local optima: how many slots have operation 2."""
    return (population == 2).sum(-1).float()


def test_local_search_climbs_to_the_top_by_neighbours(rng: torch.Generator) -> None:
    """Eight slots: from the best of ten at most 8 steps, each found among 16 neighbours."""
    space = SearchSpace("eight", operations=("abc",) * 8, groups=(8,))
    search = LocalSearch(space, rng, repeats=False)
    while len(search.scores) < 10 + 8 * 16:
        search.tell(population := search.ask(1), count(population))
        if len(search.scores) > 10 and float(search.scores.max()) < 8:
            centre = search.population[search.scores[:-1].argmax()]
            assert rows_in(population, space.neighbours(centre)).all()
    assert search.best().tolist() == [[2] * 8]


def test_local_search_begins_anew_at_a_local_optimum(rng: torch.Generator) -> None:
    """Two tops far apart: the higher one is found after the lower one in some run, which neighbours alone never do."""
    space = SearchSpace("eight", operations=("abc",) * 8, groups=(8,))

    def two_tops(population: Population) -> torch.Tensor:
        return torch.maximum(count(population), 1.1 * (population == 0).sum(-1).float())

    search = LocalSearch(space, rng, repeats=False)
    while len(search.scores) < 1500:
        search.tell(population := search.ask(1), two_tops(population))
    scores = search.scores.tolist()
    assert 8.0 in scores
    assert max(scores) == pytest.approx(8.8)


def test_children_of_regularized_evolution_have_a_living_parent(rng: torch.Generator) -> None:
    """One slot away from one of the last 50. The mean of fifty uniform ones is 8 / 3 within 0.19; 4 is seven sigma."""
    space = SearchSpace("eight", operations=("abc",) * 8, groups=(8,))
    search = RegularizedEvolution(space, rng, repeats=False)
    while len(search.scores) < 300:
        living = search.population[-50:]
        search.tell(population := search.ask(1), count(population))
        if len(search.scores) > 50:
            assert int((population != living).sum(-1).min()) == 1
    assert float(search.scores[-50:].mean()) > 4


def test_the_oldest_die_however_good(rng: torch.Generator) -> None:
    """The best by far came first: fifty labels later no child is its neighbour any more."""
    space = SearchSpace("eight", operations=("abc",) * 8, groups=(8,))
    search = RegularizedEvolution(space, rng, repeats=False)
    first = torch.full((1, 8), 2)
    search.tell(first, torch.tensor([1.0]))
    far = space.uniform(2000, rng)
    far = far[(far != 2).sum(-1) >= 6][:100]
    search.tell(far, torch.zeros(len(far)))
    for _ in range(30):
        search.tell(population := search.ask(1), torch.zeros(1))
        assert int((population != first).sum()) >= 4
    assert torch.equal(search.best(), first)
