"""What predictors and histories see of architectures: features and keys."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.spaces.spaces import PLAIN, SPACES
from vaenas.spaces import cells
from vaenas.spaces.nasbench101 import NASBench101Space
from vaenas.spaces.space import SearchSpace

seeds = st.integers(0, 2**31 - 1)
NASBENCH101 = NASBench101Space()
# Too many architectures to be numbered in 63 bits, and exactly as many as can be.
HUGE = SearchSpace("huge", operations=("abcd",) * 40, groups=(40,))
BRIM = SearchSpace("brim", operations=("ab",) * 63, groups=(63,))
KEYED = PLAIN | {"huge": HUGE, "brim": BRIM}


def distances(groups: list[Tensor]) -> Tensor:
    """Squared distances between all pairs, summed over the groups."""
    joined = torch.cat([g.double() for g in groups], dim=1)
    return (joined[:, None] - joined[None]).square().sum(-1)


def relabelled(population: Tensor, rng: torch.Generator) -> Tensor:
    """Isomorphic cells: of each the inner vertices in another order of which all edges still go upwards, at random."""
    orders = [(0, *inner, 6) for inner in itertools.permutations(range(1, 6))]
    results = []
    for row in population.tolist():
        edges = [(x, y) for y in range(7) for x in range(y) if row[x + y * (y - 1) // 2]]
        fitting = [order for order in orders if all(order[x] < order[y] for x, y in edges)]
        order = fitting[int(torch.randint(len(fitting), (1,), generator=rng))]
        new = [0] * 26
        for x, y in edges:
            new[order[x] + order[y] * (order[y] - 1) // 2] = 1
        for vertex in range(1, 6):
            new[20 + order[vertex]] = row[20 + vertex]
        results.append(new)
    return torch.tensor(results)


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
@pytest.mark.parametrize("name", SPACES)
def test_features_are_finite_rows_that_do_not_depend_on_the_rest_of_the_population(name: str, seed: int) -> None:
    space, rng = SPACES[name], torch.Generator().manual_seed(seed)
    population = space.uniform(12, rng)
    groups = space.features(population)
    assert len(groups) >= 1
    for group, alone in zip(groups, space.features(population[3:4]), strict=True):
        assert group.is_floating_point()
        assert group.shape == (12, alone.shape[1])
        assert group.isfinite().all()
        assert torch.equal(group[3:4], alone)


@pytest.mark.parametrize("name", SPACES)
def test_no_architectures_have_no_features_and_no_keys(name: str, rng: torch.Generator) -> None:
    space = SPACES[name]
    nothing = space.uniform(5, rng)[:0]
    groups = space.features(nothing)
    assert [len(group) for group in groups] == [0] * len(space.features(space.uniform(1, rng)))
    assert space.keys(nothing).shape == (0,)


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
@pytest.mark.parametrize("name", PLAIN)
def test_the_squared_distance_counts_the_slots_that_differ(name: str, seed: int) -> None:
    """One group for each slot: 1 where the operations differ, 0 where not."""
    space, rng = PLAIN[name], torch.Generator().manual_seed(seed)
    population = space.uniform(10, rng)
    population = torch.cat([population, space.neighbours(population[0])])
    groups = space.features(population)
    assert len(groups) == space.slots
    differ = (population[:, None] != population[None]).double()
    for slot, group in enumerate(groups):
        torch.testing.assert_close(distances([group]), differ[..., slot], atol=1e-6, rtol=0)
    torch.testing.assert_close(distances(groups)[0, 10:], torch.ones(len(population) - 10).double(), atol=1e-6, rtol=0)


@given(seed=seeds)
@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("name", KEYED)
def test_keys_are_equal_exactly_for_the_same_architecture(name: str, seed: int) -> None:
    """Near ones and far ones."""
    space, rng = KEYED[name], torch.Generator().manual_seed(seed)
    some = space.uniform(30, rng)
    population = torch.cat([some, space.mutate(some, 0.1, rng), space.neighbours(some[0]), some[:5]])
    keys = space.keys(population)
    assert keys.dtype == torch.int64
    same = (population[:, None] == population[None]).all(-1)
    assert torch.equal(keys[:, None] == keys[None], same)
    assert torch.equal(space.keys(population[7:9]), keys[7:9])


@pytest.mark.parametrize("name", ["nasbench201", "macro", "uneven"])
def test_every_architecture_of_a_small_space_has_a_key_of_its_own(name: str) -> None:
    space = SPACES[name]
    everything = torch.cartesian_prod(*(torch.arange(choices) for choices in space.choices))
    assert len(space.keys(everything).unique()) == len(everything)


def test_keys_at_the_limits_of_their_number() -> None:
    corners = torch.stack([torch.zeros(63), torch.ones(63)]).long()
    assert (
        len(BRIM.keys(torch.cat([corners, BRIM.neighbours(corners[0]), BRIM.neighbours(corners[1])])).unique()) == 128
    )


@given(seed=seeds)
@settings(max_examples=15, deadline=None)
def test_isomorphic_cells_have_equal_keys_and_equal_features(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    population = NASBENCH101.uniform(10, rng)
    other = relabelled(population, rng)
    assert NASBENCH101.is_valid(other).all()
    assert torch.equal(NASBENCH101.keys(other), NASBENCH101.keys(population))
    for a, b in zip(NASBENCH101.features(population), NASBENCH101.features(other), strict=True):
        torch.testing.assert_close(a, b)


def test_relabelling_reaches_cells_of_other_edges(rng: torch.Generator) -> None:
    """So that the test above shows something."""
    population = NASBENCH101.uniform(50, rng)
    assert (relabelled(population, rng) != population).any(-1).sum() > 20


@given(seed=seeds)
@settings(max_examples=15, deadline=None)
def test_cells_have_equal_keys_exactly_if_they_have_equal_official_hashes(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    some = NASBENCH101.uniform(40, rng)
    population = torch.cat([some, relabelled(some[:10], rng), NASBENCH101.neighbours(some[0])])
    keys, hashes = NASBENCH101.keys(population), cells.module_hash(population)
    _, numbers = torch.unique(torch.tensor([int(h[:15], 16) for h in hashes]), return_inverse=True)
    assert torch.equal(keys[:, None] == keys[None], numbers[:, None] == numbers[None])


@given(seed=seeds)
@settings(max_examples=15, deadline=None)
def test_what_is_pruned_has_no_features(seed: int) -> None:
    population = NASBENCH101.uniform(30, torch.Generator().manual_seed(seed))
    for a, b in zip(cells.features(population), cells.features(cells.prune(population)), strict=True):
        assert torch.equal(a, b)


def test_features_tell_nearly_all_cells_apart(rng: torch.Generator) -> None:
    """Of 2,000 draws less than 2 % of the different cells share all their features with another one."""
    population = NASBENCH101.uniform(2000, rng)
    _, inverse = NASBENCH101.keys(population).unique(return_inverse=True)
    first = torch.full((int(inverse.max()) + 1,), 2000).scatter_reduce(0, inverse, torch.arange(2000), "amin")
    features = torch.cat(NASBENCH101.features(population[first]), dim=1)
    assert len(features.unique(dim=0)) > 0.98 * len(first)


def test_features_of_a_cell_by_hand() -> None:
    """0 -> 1 -> 6 and 0 -> 6 alone, operation 1 = conv1x1: one path of no operation, one of that; see the groups."""
    cell = torch.zeros(1, 26, dtype=torch.int64)
    cell[0, [0, 15, 16]] = 1  # 0 -> 1, 0 -> 6, 1 -> 6
    cell[0, 21] = 1
    paths, edges, shape = (group[0] for group in cells.features(cell))
    # sequences: none, one of 3, of 9, of 27
    assert paths.nonzero()[:, 0].tolist() == [0, 1 + 1]
    assert float(paths[0]) == float(paths[2]) > 0
    # (conv1x1 -> output), (input -> conv1x1), (input -> output), labels 0-2 operations, 3 input, 4 output
    assert edges.nonzero()[:, 0].tolist() == [1 * 5 + 4, 3 * 5 + 1, 3 * 5 + 4]
    # longest 2, shortest 1, edges into the output 2, out of the input 2, direct 1, most of each operation 0, 1, 0
    assert (shape / shape[1]).tolist() == pytest.approx([2, 1, 2, 2, 1, 0, 1, 0])
