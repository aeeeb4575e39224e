"""The NAS-Bench-101 space draws, mutates and crosses as App. A.5 says."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vaenas.errors import UserError
from vaenas.spaces import cells
from vaenas.spaces.nasbench101 import NASBench101Space

SPACE, FULL = NASBench101Space(), NASBench101Space(only_full=True)
seeds = st.integers(0, 2**31 - 1)


@pytest.fixture(scope="module")
def masks() -> Tensor:
    """The edges of all valid architectures as bits, ascending."""
    every = torch.arange(2**21)
    nine = torch.cat([part[(part[:, None] >> torch.arange(21) & 1).sum(-1) == 9] for part in every.split(2**16)])
    assert len(nine) == math.comb(21, 9)
    edges = nine[:, None] >> torch.arange(21) & 1
    return nine[cells.connected(torch.nn.functional.pad(edges, (0, 5)))]


def bits(population: Tensor) -> Tensor:
    return (population[:, :21] << torch.arange(21)).sum(-1)


def chi2_z(seen: Tensor, expected: Tensor, freedom: int) -> float:
    """Pearson's statistic as a standard normal (Wilson-Hilferty)."""
    chi2 = float(((seen - expected) ** 2 / expected).sum())
    return ((chi2 / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / (2 / (9 * freedom)) ** 0.5


def test_zero_logits_are_uniform_over_the_connected_rows_of_nine_edges(masks: Tensor, rng: torch.Generator) -> None:
    """Chi-square tests over 1000 cuts of the sorted edge bits and over the operations; false alarms 1e-6 in all."""
    n, cuts = 100_000, 1000
    drawn = SPACE.draw(torch.zeros(n, 26, 3), rng)
    place = torch.searchsorted(masks, bits(drawn))
    assert torch.equal(masks[place], bits(drawn))
    cut = torch.arange(len(masks)) * cuts // len(masks)
    share = cut.bincount().double() / len(masks)
    assert chi2_z(cut[place].bincount(minlength=cuts).double(), n * share, cuts - 1) < 4.9
    seen = torch.nn.functional.one_hot(drawn[:, 21:], 3).sum(0).double()
    assert chi2_z(seen, torch.full_like(seen, n / 3), 10) < 4.9


def test_full_cells_are_uniform_over_those_that_keep_seven_vertices(masks: Tensor, rng: torch.Generator) -> None:
    """As above: 100 cuts, false alarms 1e-6."""
    whole = masks[cells.is_full(torch.nn.functional.pad(masks[:, None] >> torch.arange(21) & 1, (0, 5)))]
    assert 0.01 < len(whole) / len(masks) < 0.02
    n, cuts = 10_000, 100
    place = torch.searchsorted(whole, found := bits(FULL.uniform(n, rng)))
    assert torch.equal(whole[place], found)
    cut = torch.arange(len(whole)) * cuts // len(whole)
    share = cut.bincount().double() / len(whole)
    assert chi2_z(cut[place].bincount(minlength=cuts).double(), n * share, cuts - 1) < 4.9


def test_the_nine_largest_numbers_become_edges(masks: Tensor, rng: torch.Generator) -> None:
    wanted = masks[torch.randint(len(masks), (300,), generator=rng)][:, None] >> torch.arange(21) & 1
    operations = torch.randint(3, (300, 5), generator=rng)
    population = torch.cat([wanted, operations], 1)
    logits = 100.0 * torch.nn.functional.one_hot(population, 3)
    assert torch.equal(SPACE.draw(logits, rng), population)


def test_noise_on_an_edge_is_logistic(rng: torch.Generator) -> None:
    """Eight edges are certain, two compete for the ninth place: the difference of two logistic variables decides.

    P(a + X > Y) = e^a (e^a - 1 - a) / (e^a - 1)^2 for standard logistic X and Y; 5 sigma: false-alarm rate 6e-7.
    """
    n, a = 20_000, 1.0
    logits = torch.zeros(n, 26, 3)
    logits[:, :21, 1] = -200.0
    logits[:, 13:21, 1] = 200.0  # includes 0 -> 6: always connected
    logits[:, 0, 1], logits[:, 1, 1] = a, 0.0
    share = float(SPACE.draw(logits, rng)[:, 0].double().mean())
    expected = math.exp(a) * (math.expm1(a) - a) / math.expm1(a) ** 2
    assert abs(share - expected) < 5 * (expected * (1 - expected) / n) ** 0.5


def test_logits_without_a_connected_cell_still_give_valid_rows(rng: torch.Generator) -> None:
    """All mass on edges that avoid the output: the edges of these rows are drawn uniformly, operations as told."""
    logits = torch.zeros(200, 26, 3)
    logits[:100, 15:21, 1] = -1000.0
    logits[:, 21:, 2] = 100.0
    drawn = SPACE.draw(logits, rng)
    assert SPACE.is_valid(drawn).all()
    assert (drawn[:, 21:] == 2).all()
    assert len(bits(drawn[:100]).unique()) > 90


def test_is_valid_counts_edges_and_looks_for_a_path() -> None:
    population = torch.zeros(4, 26, dtype=torch.int64)
    population[0, 12:21] = 1  # nine edges, 0 -> 6 among them
    population[1, 13:21] = 1  # eight
    population[2, 11:21] = 1  # ten
    population[3, 0:9] = 1  # nine, none into the output
    assert SPACE.is_valid(population).tolist() == [True, False, False, False]


@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_mutation_of_probability_one_exchanges_every_edge(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    parents = SPACE.uniform(200, rng)
    children = SPACE.mutate(parents, 1.0, rng)
    shared = (parents & children)[:, :21].sum(-1)
    same = (parents == children).all(-1)  # no connected child was found
    assert ((shared == 0) | same).all()
    assert same.double().mean() < 0.2


def test_mutation_probability(rng: torch.Generator) -> None:
    """Operations change at their rate; edges too, but for the few children that are redrawn.

    5 sigma of 5 shares: false-alarm rate 3e-6.
    """
    n, prob = 20_000, 0.1
    parents = SPACE.uniform(n, rng)
    children = SPACE.mutate(parents, prob, rng)
    share = (parents != children)[:, 21:].double().mean(0)
    expected = prob * 2 / 3
    assert ((share - expected).abs() < 5 * (expected * (1 - expected) / n) ** 0.5).all()
    lost = float((parents > children)[:, :21].sum(-1).double().mean()) / 9
    assert 0.8 * prob < lost <= prob * 1.02  # disconnected children are redrawn, which favours fewer exchanges


@given(seed=seeds)
@settings(max_examples=15, deadline=None)
def test_crossover_exchanges_one_pair_of_edges(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    mothers, fathers = SPACE.uniform(100, rng), SPACE.uniform(100, rng)
    fathers[:5, :21] = mothers[:5, :21]  # same edges: nothing to exchange
    children = SPACE.crossover(mothers, fathers, rng)
    assert SPACE.is_valid(children).all()
    a, b, c = mothers[:, :21], fathers[:, :21], children[:, :21]
    removed, added = a > c, c > a
    assert (removed.sum(-1) <= 1).all()
    assert (b[removed] == 0).all()
    assert (b[added] == 1).all()
    assert (removed[:5].sum(-1) == 0).all()
    for mother, father in zip(mothers[(a == c).all(-1)], fathers[(a == c).all(-1)], strict=True):
        assert not len(exchanges(mother, father))
    assert ((children == mothers) | (children == fathers))[:, 21:].all()


def exchanges(mother: Tensor, father: Tensor) -> Tensor:
    """All connected children of two parents, by brute force, with the mother's operations."""
    hers, his = (mother > father)[:21].nonzero()[:, 0].tolist(), (mother < father)[:21].nonzero()[:, 0].tolist()
    children = []
    for i, j in itertools.product(hers, his):
        child = mother.clone()
        child[i], child[j] = 0, 1
        children.append(child)
    rows = torch.stack(children) if children else mother.new_zeros(0, 26)
    return rows[SPACE.is_valid(rows)]


def test_neighbours_are_all_rows_one_change_away(rng: torch.Generator) -> None:
    architecture = SPACE.uniform(1, rng)[0]
    everything = architecture.clone()
    everything[:21] = 1 - architecture[:21]  # offers every absent edge
    expected = {tuple(row) for row in exchanges(architecture, everything).tolist()}
    for slot, operation in itertools.product(range(21, 26), range(3)):
        changed = architecture.clone()
        changed[slot] = operation
        expected.add(tuple(changed.tolist()))
    expected.remove(tuple(architecture.tolist()))
    found = [tuple(row) for row in SPACE.neighbours(architecture).tolist()]
    assert len(found) == len(expected)
    assert set(found) == expected


def test_text_code_reads_by_vertex() -> None:
    population = cells.embed(torch.tensor([7]), torch.tensor([0b110001_00010_0010_100_10_1]), ["01200"])
    assert SPACE.encode(population) == ["1-01-001-0100-01000-100011-31p33"]


def test_decode_takes_the_benchmarks_matrix_and_operations(rng: torch.Generator) -> None:
    space = NASBench101Space()
    population = space.uniform(20, rng)
    texts = [text for row in population if (text := space.own_text(row))]
    assert torch.equal(space.decode([*texts, *space.encode(population)]), population.repeat(2, 1))
    small = space.decode(['{"matrix": [[0, 1, 0], [0, 0, 1], [0, 0, 0]], "ops": ["input", "maxpool3x3", "output"]}'])
    assert space.encode(small) == ["1-00-000-0000-00000-010000-p3333"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "Invalid JSON"),
        ("{}", "matrix: Field required"),
        ('{"matrix": [[0, 1], [0]], "ops": ["input", "output"]}', "must be square"),
        ('{"matrix": [[0, 2], [0, 0]], "ops": ["input", "output"]}', "matrix.0.1: must be 0 or 1"),
        ('{"matrix": [], "ops": []}', "0 vertices"),
        ('{"matrix": [[0, 1], [0, 0]], "ops": ["input", 1e400]}', "ops.1"),
        ('{"matrix": [[0, 0], [0, 0]], "ops": ["input", "output"]}', "no path"),
        ('{"matrix": ' + "[" * 10_000, "recursion limit"),
    ],
)
def test_wrong_matrices_are_named(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        NASBench101Space().decode([text])
