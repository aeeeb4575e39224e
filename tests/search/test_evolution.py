"""Evolution, evaluated, limits and Pareto front."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.shared_fixtures import SHUFFLENET, anything
from tests.spaces.spaces import SPACES
from vaenas.constraints import Constraints, readable
from vaenas.errors import UserError
from vaenas.networks import NetworkConfig
from vaenas.networks.shufflenet import ShuffleNetImageSpace
from vaenas.search.evaluated_set import EvaluatedSet, pareto_front, score
from vaenas.search.evolution import Evolution
from vaenas.search.settings import EvolutionSettings
from vaenas.search.surrogate import SurrogateSearch
from vaenas.spaces.space import Population, Scores

SPACE = SPACES["shufflenet-10"]


def weighted(population: Population) -> Scores:
    """A smooth score with one optimum: operation 3 in every slot, later slots weigh more."""
    weights = torch.arange(1.0, population.shape[1] + 1)
    return (population.float() / 3 @ weights) / weights.sum()


def run(rng: torch.Generator, settings: EvolutionSettings, is_feasible=anything) -> Evolution:
    initial = SPACE.uniform(10_000, rng)
    state = Evolution(SPACE, settings, weighted, is_feasible, rng, initial[is_feasible(initial)][: settings.population])
    for _ in state.run():
        pass
    return state


def test_evolution_beats_as_many_uniform_draws(rng: torch.Generator) -> None:
    """The optimum's score is 1; 1000 uniform draws reach it with probability 1e-3."""
    state = run(rng, EvolutionSettings(population=50, generations=20, top_k=10, mutation_prob=0.1))
    assert float(state.evaluated.scores.max()) > float(weighted(SPACE.uniform(1000, rng)).max())
    assert float(state.evaluated.scores.max()) > 0.97
    assert len(state.evaluated) <= 1000


def test_choosing_by_the_ridge_surrogate_sees_through_noise(rng: torch.Generator) -> None:
    """Noise of 0.2 on scores that spread by 0.1: the truth of the best eight is higher, as with 38 of 40 seeds."""
    noise = torch.Generator().manual_seed(1)

    def noisy(population: Population) -> Scores:
        return weighted(population) + 0.2 * torch.randn(len(population), generator=noise)

    means = {}
    for surrogate in (False, True):
        settings = EvolutionSettings(population=40, generations=6, top_k=8)
        kind = SurrogateSearch if surrogate else Evolution
        state = kind(SPACE, settings, noisy, anything, rng, SPACE.uniform(40, rng))
        for _ in state.run():
            pass
        if isinstance(state, SurrogateSearch):
            assert len(state.uniform) == 160
            assert state.surrogate() is not None
        predicted, found = state.predicted(), state.evaluated.population
        means[surrogate] = float(weighted(found[predicted.topk(8).indices]).mean())
    assert means[True] > means[False]


def test_what_evolves_on_predicted_scores_keeps_the_limit_and_is_the_best_of_it(rng: torch.Generator) -> None:
    def few(population: Population) -> torch.Tensor:
        return (population == 3).sum(-1) <= 4

    settings = EvolutionSettings(population=30, generations=4, top_k=8)
    initial = SPACE.uniform(200, rng)
    state = SurrogateSearch(SPACE, settings, weighted, few, rng, initial[few(initial)][:30])
    records = [r for r in state.run() if r.kind == "surrogate"]
    assert [r.values["drawn"] for r in records] == ["initial", "uniform", "uniform", "predicted"]
    assert few(state.evaluated.population).all()
    assert len(state.evaluated) <= 120
    # The last round has the optimum under the limit.
    assert max(records[-1].values["scores"]) == pytest.approx(float(weighted(torch.tensor([6 * [2] + 4 * [3]]))))


@pytest.mark.parametrize("generations", [1, 2])
def test_too_few_generations_for_a_surrogate(generations: int, rng: torch.Generator) -> None:
    settings = EvolutionSettings(population=12, generations=generations, top_k=3)
    state = SurrogateSearch(SPACE, settings, weighted, anything, rng, SPACE.uniform(12, rng))
    for _ in state.run():
        pass
    assert len(state.uniform) == 0
    assert torch.equal(state.predicted(), state.evaluated.scores)
    assert len(state.evaluated) <= 12 * generations


def test_every_child_keeps_the_limit_and_none_is_evaluated_twice(rng: torch.Generator) -> None:
    calls: list[torch.Tensor] = []

    def evaluate(population: Population) -> Scores:
        calls.append(population)
        return weighted(population)

    def even(population: Population) -> torch.Tensor:
        return population.sum(-1) % 2 == 0

    initial = SPACE.uniform(200, rng)
    state = Evolution(SPACE, EvolutionSettings(20, 6, 5), evaluate, even, rng, initial[even(initial)][:20])
    for _ in state.run():
        pass
    seen = torch.cat(calls)
    assert even(seen).all()
    assert len(seen.unique(dim=0)) == len(seen) == len(state.evaluated)


def test_a_space_smaller_than_the_population_is_used_up_and_ends(rng: torch.Generator) -> None:
    space = SPACES["uneven"]  # 30 architectures
    settings = EvolutionSettings(40, 5, 5)
    state = Evolution(space, settings, lambda p: p.float().mean(-1) / 5, anything, rng, space.uniform(40, rng))
    for _ in state.run():
        pass
    assert len(state.evaluated) == 30
    assert state.generation == 5


def test_archive_scores_each_architecture_once_and_finds_it_again(rng: torch.Generator) -> None:
    evaluated = EvaluatedSet(10)
    population = SPACE.uniform(20, rng).repeat(2, 1)
    records = score(population, weighted, "ranking", evaluated)
    assert [record.values["done"] for record in records] == [16, len(evaluated)]
    assert len(evaluated) == len(population.unique(dim=0))
    assert torch.allclose(evaluated.lookup(population), weighted(population))
    assert len(evaluated.missing(population)) == 0
    best = evaluated.best(3)
    assert torch.equal(evaluated.lookup(best), evaluated.scores.topk(3).values)
    with pytest.raises(KeyError, match="never evaluated"):
        evaluated.lookup(1 - population.clamp(max=1))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=15))
@settings(deadline=None)
def test_pareto_front_is_what_nothing_dominates(points: list[tuple[int, int]]) -> None:
    scores = torch.tensor([float(s) for s, _ in points])
    costs = torch.tensor([c for _, c in points], dtype=torch.int64)

    def dominated(a: tuple[int, int]) -> bool:
        return any(b[0] >= a[0] and b[1] <= a[1] and b != a for b in points)

    assert pareto_front(scores, costs).tolist() == [not dominated(p) for p in points]


COST, TINY = SHUFFLENET.cost, SHUFFLENET.space


def test_a_budget_that_nothing_meets_names_the_cheapest_architecture() -> None:
    architecture, least = COST.cheapest("multiply_adds")
    constraints = Constraints(COST, max_flops=least - 1)
    with pytest.raises(
        UserError, match=rf"--max-flops .*cheapest architecture, {TINY.encode(architecture[None])[0]}, has {least:,}"
    ):
        constraints.check(TINY)
    Constraints(COST, max_flops=least).check(TINY)
    with pytest.raises(UserError, match="--max-params 10: nothing"):
        Constraints(COST, max_params=10).check(TINY)


def test_two_limits_that_exclude_each_other_are_found_out() -> None:
    flops, params = COST.cheapest("multiply_adds")[1], COST.cheapest("params")[1]
    small = COST(COST.cheapest("multiply_adds")[0][None]).params
    assert int(small) > params, "else this network cannot show it"
    with pytest.raises(UserError, match=r"only 0 keep --max-flops .* and --max-params"):
        Constraints(COST, max_flops=flops, max_params=params).check(TINY)


def test_limits_accept_exactly_what_is_within(rng: torch.Generator) -> None:
    population = TINY.uniform(300, rng)
    costs = COST(population)
    bound = int(costs.multiply_adds.median())
    assert torch.equal(Constraints(COST, max_flops=bound).is_feasible(population), costs.multiply_adds <= bound)
    assert Constraints(COST).is_feasible(population).all()


def test_counts_are_readable() -> None:
    assert [readable(n) for n in (365_000_000, 3_460_000, 12, 1_500, 2e9)] == ["365M", "3.46M", "12", "1.5K", "2G"]


def test_a_budget_that_leaves_too_few_to_finish_the_search_is_found_out_before_it_begins(rng: torch.Generator) -> None:
    """One architecture can be drawn, hundreds cannot: the check asks for as many as the search will need."""
    of_ten = ShuffleNetImageSpace(NetworkConfig(28, 1, 10, 0.25, 10))
    space, cost = of_ten.space, of_ten.cost
    tight = cost.cheapest("multiply_adds")[1] + 20_000
    accepted = int(Constraints(cost, max_flops=tight).is_feasible(space.uniform(409_600, rng)).sum())
    assert accepted < 200, "else this limit cannot show it"
    with pytest.raises(UserError, match=r"only \d+ keep --max-flops .*; 200 are needed.* the cheapest"):
        Constraints(cost, max_flops=tight).check(space, needed=200)
