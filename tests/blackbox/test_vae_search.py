"""The history of labels, and the learned search on functions whose optimum is known."""

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.spaces.spaces import SPACES
from vaenas.blackbox.baselines import RandomSearch
from vaenas.blackbox.vae_search import ALONE, PAPER_ALONE, BlackBoxSettings, VAESearch
from vaenas.samplers.categorical import CategoricalSampler
from vaenas.spaces.nasbench101 import NASBench101Space
from vaenas.spaces.space import ConstraintTooTight, Population, Scores, SearchSpace, rows_in

SPACE = SearchSpace("six", operations=("abc",) * 6, groups=(6,))
TINY = SearchSpace("tiny", operations=("abc",) * 3, groups=(3,))
EVERYTHING = torch.cartesian_prod(*[torch.arange(3)] * 6)
SETTINGS = {"vae": BlackBoxSettings(proposals=300), "alone": ALONE, "paper": PAPER_ALONE}
SETTINGS = {name: replace(s, vae=replace(s.vae, iterations=10)) for name, s in SETTINGS.items()}


def interacting(population: Population) -> Scores:
    """One number for each pair of neighbouring slots' operations: no slot can be set without its neighbours."""
    tables = torch.rand(SPACE.slots, 3, 3, generator=torch.Generator().manual_seed(3))
    slots = torch.arange(SPACE.slots)
    return tables[slots, population, population.roll(-1, dims=1)].mean(-1)


OPTIMUM = EVERYTHING[interacting(EVERYTHING).argmax()][None]


def labelled(search: VAESearch, labels: int, evaluate=interacting, size: int = 10) -> VAESearch:
    while len(search.scores) < labels:
        population = search.ask(min(size, labels - len(search.scores)))
        search.tell(population, evaluate(population))
    return search


@given(
    labels=st.lists(st.tuples(st.integers(0, 5), st.integers(-8, 8)), min_size=1, max_size=30),
    cuts=st.lists(st.integers(0, 30), max_size=3),
)
@settings(max_examples=60, deadline=None)
def test_history_averages_the_labels_of_each_architecture(labels: list[tuple[int, int]], cuts: list[int]) -> None:
    """Told at once or in parts; whole eighths add up exactly."""
    history = RandomSearch(SPACE, torch.Generator())
    names, values = zip(*labels, strict=True)
    population, scores = EVERYTHING[list(names)], torch.tensor(values) / 8
    edges = [0, *sorted(min(c, len(labels)) for c in cuts), len(labels)]
    for a, b in itertools.pairwise(edges):
        history.tell(population[a:b], scores[a:b])
    expected: dict[int, list[float]] = {}
    for name, value in labels:
        expected.setdefault(name, []).append(value / 8)
    found, means = history.means()
    assert len(history.scores) == len(labels)
    assert torch.equal(found, EVERYTHING[list(expected)])
    torch.testing.assert_close(means, torch.tensor([sum(v) / len(v) for v in expected.values()]))
    best = max(expected, key=lambda name: sum(expected[name]) / len(expected[name]))
    assert torch.equal(history.best(), EVERYTHING[[best]])


def test_a_lucky_run_is_not_the_best_of_many() -> None:
    history = RandomSearch(SPACE, torch.Generator())
    history.tell(EVERYTHING[[4, 7, 4, 7]], torch.tensor([0.9, 0.8, 0.1, 0.8]))
    assert torch.equal(history.best(), EVERYTHING[[7]])


def test_isomorphic_cells_are_one_architecture() -> None:
    """0 -> 1 -> 6 and 0 -> 2 -> 6 with the same operation, and edges that are pruned."""
    space = NASBench101Space()
    cells = torch.zeros(2, 26, dtype=torch.int64)
    cells[0, [0, 16]] = 1
    cells[1, [1, 17]] = 1
    history = RandomSearch(space, torch.Generator())
    history.tell(cells, torch.tensor([0.25, 0.75]))
    found, means = history.means()
    assert torch.equal(found, cells[:1])
    assert means.tolist() == [0.5]


@pytest.mark.parametrize("seed", range(5))
def test_the_optimum_of_729_is_found_within_80_labels(seed: int) -> None:
    """Random search finds it so with probability 80 / 729 = 11 %: in all five of five runs with 2e-5."""
    search = labelled(VAESearch(SPACE, torch.Generator().manual_seed(seed)), 80)
    assert rows_in(OPTIMUM, search.population)
    assert torch.equal(search.best(), OPTIMUM)


def test_random_labels_do_not_find_it() -> None:
    found = 0
    for seed in range(5):
        order = torch.randperm(len(EVERYTHING), generator=torch.Generator().manual_seed(seed))
        found += bool(rows_in(OPTIMUM, EVERYTHING[order[:80]]))
    assert found <= 1


def test_repeats_tell_the_best_under_noise() -> None:
    """One run deviates by half the distance of the best from the 30th best; the choice is among the best 15 of 729."""
    truth = interacting(EVERYTHING)
    best = truth.sort(descending=True).values
    noise = torch.Generator().manual_seed(0)

    def one_run(population: Population) -> Scores:
        return interacting(population) + 0.5 * (best[0] - best[29]) * torch.randn(len(population), generator=noise)

    search = VAESearch(SPACE, torch.Generator().manual_seed(1), BlackBoxSettings(repeats=True))
    labelled(search, 100, one_run)
    counts = search.keys.unique(return_counts=True)[1]
    assert int(counts.max()) > 1
    assert float(interacting(search.best())) >= float(best[14])


@pytest.mark.parametrize("name", SETTINGS)
def test_one_question_never_names_an_architecture_twice(name: str) -> None:
    """With repeats neither: they are for later questions. Keys, so that isomorphic cells are the same."""
    for space in (SPACE, SPACES["nasbench101"], SPACES["uneven"]):
        rng = torch.Generator().manual_seed(0)
        search = VAESearch(space, rng, replace(SETTINGS[name], repeats=True))
        for _ in range(3):
            population = search.ask(13)
            assert population.shape == (13, space.slots)
            assert space.is_valid(population).all()
            assert len(space.keys(population).unique()) == 13
            search.tell(population, torch.rand(13, generator=rng))


@pytest.mark.parametrize("name", SETTINGS)
def test_a_space_is_used_up_to_its_last_architecture_and_then_says_so(name: str) -> None:
    """27 architectures, some of them refused."""

    def is_feasible(population: Population) -> torch.Tensor:
        return population.sum(-1) > 0

    search = VAESearch(TINY, torch.Generator().manual_seed(0), SETTINGS[name])
    while len(search.scores) < 26:
        population = search.ask(min(4, 26 - len(search.scores)), is_feasible)
        search.tell(population, population.sum(-1).float())
    assert len(search.population.unique(dim=0)) == 26
    with pytest.raises(ConstraintTooTight, match=r"only 0 are new and feasible; 1 are needed"):
        search.ask(1, is_feasible)


def test_too_many_at_once_are_refused() -> None:
    search = VAESearch(TINY, torch.Generator().manual_seed(0))
    assert len(search.ask(27)) == 27
    with pytest.raises(ConstraintTooTight, match=r"only 27 are new and feasible; 28 are needed"):
        search.ask(28)


def test_labels_from_elsewhere_are_learnt_from() -> None:
    """A warm start: 200 labels that it did not ask for. The next ten are better than the best tenth of them."""
    rng = torch.Generator().manual_seed(0)
    others = SPACE.uniform(200, rng)
    search = VAESearch(SPACE, rng)
    search.tell(others, interacting(others))
    asked = search.ask(10)
    assert not rows_in(asked, others).any()
    assert float(interacting(asked).mean()) > float(interacting(others).quantile(0.9))


def test_units_of_the_scores_do_not_matter() -> None:
    """Powers of two and an offset that single precision holds: the same questions in other units."""

    def coarse(population: Population) -> Scores:
        return (interacting(population) * 1024).round() / 1024

    one, other = (VAESearch(SPACE, torch.Generator().manual_seed(4)) for _ in range(2))
    labelled(one, 50, coarse)
    labelled(other, 50, lambda population: 512 * coarse(population) - 256)
    assert torch.equal(one.population, other.population)


def test_another_sampler_in_the_vaes_place() -> None:
    rng = torch.Generator().manual_seed(0)
    search = labelled(VAESearch(SPACE, rng, BlackBoxSettings(), CategoricalSampler(SPACE)), 80)
    assert float(interacting(search.best())) >= float(interacting(EVERYTHING).quantile(0.99))


@pytest.mark.parametrize("name", SETTINGS)
def test_equal_scores_are_no_trouble(name: str) -> None:
    search = VAESearch(SPACE, torch.Generator().manual_seed(0), SETTINGS[name])
    labelled(search, 60, lambda population: torch.full((len(population),), 0.5))
    assert rows_in(search.best(), search.population)


def test_asking_what_was_best_changes_nothing() -> None:
    one, other = (labelled(VAESearch(SPACE, torch.Generator().manual_seed(2)), 40) for _ in range(2))
    assert torch.equal(one.best(), one.best())
    assert torch.equal(one.ask(10), other.ask(10))
