"""General cells: pruning, keys and hashes against the table of NAS-Bench-101."""

import itertools
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vaenas.errors import UserError
from vaenas.spaces import cells

seeds = st.integers(0, 2**31 - 1)
EDGES = [(x, y) for y in range(7) for x in range(y)]


def cell(*edges: tuple[int, int], operations: tuple[int, ...] = (0,) * 5) -> Tensor:
    row = torch.zeros(1, 26, dtype=torch.int64)
    row[0, [cells.edge(x, y) for x, y in edges]] = 1
    row[0, 21:] = torch.tensor(operations)
    return row


def random_cells(n: int, density: float, rng: torch.Generator) -> Tensor:
    edges = (torch.rand(n, 21, generator=rng) < density).long()
    return torch.cat([edges, torch.randint(3, (n, 5), generator=rng)], dim=1)


def relabelled(population: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Each row with its inner vertices in another order; and which rows keep all edges in the upper triangle."""
    n = len(population)
    order = torch.rand(n, 5, generator=rng).argsort(-1) + 1  # old vertex at each new place
    order = torch.cat([torch.zeros(n, 1).long(), order, torch.full((n, 1), 6)], dim=1)
    matrices = torch.zeros(n, 7, 7, dtype=torch.int64)
    source, target = torch.tensor(EDGES).unbind(1)
    matrices[:, source, target] = population[:, :21]
    each = torch.arange(n)[:, None, None]
    matrices = matrices[each, order[:, :, None], order[:, None, :]]
    operations = population[:, 21:].gather(1, order[:, 1:-1] - 1)
    return torch.cat([matrices[:, source, target], operations], 1), (matrices.tril() == 0).all(-1).all(-1)


# The first rows of the table, which is sorted by the official hash.
KNOWN = [
    (7, 1205349, "02001", "00005c142e6f48ac74fdcf73e3439874"),
    (7, 1335845, "11010", "0000718c96730a92ea6d5242f8ce77e2"),
    (7, 1330725, "02121", "0000cb5372fad9d62c470df699ac6d52"),
]


def test_published_hashes() -> None:
    vertices, bits, operations, hashes = zip(*KNOWN, strict=True)
    population = cells.embed(torch.tensor(vertices), torch.tensor(bits), list(operations))
    assert cells.module_hash(population) == list(hashes)


@pytest.mark.timeout(900)
def test_enumeration_and_hash_give_exactly_the_cells_of_the_table(cells_parquet: Path) -> None:
    """About a minute of one core, nearly all of it hashes."""
    table = parquet.read_table(cells_parquet, columns=["hash"])

    found = []
    for vertices in range(2, 8):
        graphs = []
        for masks in torch.arange(2 ** (vertices * (vertices - 1) // 2)).split(2**16):
            edges = masks[:, None] >> torch.arange(21) & 1
            masks = masks[edges.sum(-1) <= 9]
            some = cells.embed(torch.full_like(masks, vertices), masks, ["0" * (vertices - 2)] * len(masks))
            graphs.append(some[cells.alive(some).sum(-1) == vertices])
        graphs = first_of_each_key(torch.cat(graphs))
        operations = torch.tensor(list(itertools.product(range(3), repeat=vertices - 2)), dtype=torch.int64)
        operations = torch.nn.functional.pad(operations, (0, 7 - vertices))
        every = torch.cat([graphs.repeat_interleave(len(operations), 0)[:, :21], operations.repeat(len(graphs), 1)], 1)
        found.append(first_of_each_key(every))
    population = torch.cat(found)

    assert len(cells.canonical_key(population).unique()) == len(population) == 423_624
    assert set(cells.module_hash(population)) == set(table["hash"].to_pylist())


def first_of_each_key(population: Tensor) -> Tensor:
    _, first = np.unique(cells.canonical_key(population).numpy(), return_index=True)
    return population[first]


@given(seed=seeds, density=st.floats(0.15, 0.6))
@settings(max_examples=8, deadline=None)
def test_relabelling_keeps_key_and_hash(seed: int, density: float) -> None:
    rng = torch.Generator().manual_seed(seed)
    before = random_cells(1000, density, rng)
    after, triangular = relabelled(before, rng)
    keep = triangular & cells.connected(before)
    before, after = before[keep], after[keep]
    assert torch.equal(cells.canonical_key(before), cells.canonical_key(after))
    assert cells.module_hash(before) == cells.module_hash(after)


@given(seed=seeds, density=st.floats(0.1, 0.6))
@settings(max_examples=6, deadline=None)
def test_keys_differ_exactly_where_hashes_do(seed: int, density: float) -> None:
    some = random_cells(1000, density, torch.Generator().manual_seed(seed))
    some = some[cells.connected(some)]
    keys, hashes = cells.canonical_key(some).tolist(), cells.module_hash(some)
    assert len(set(keys)) == len(set(hashes)) == len(set(zip(keys, hashes, strict=True)))


@given(seed=seeds, density=st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_pruning_keeps_what_lives_and_only_that(seed: int, density: float) -> None:
    some = random_cells(300, density, torch.Generator().manual_seed(seed))
    pruned, living = cells.prune(some), cells.alive(some)
    assert torch.equal(cells.prune(pruned), pruned)
    assert torch.equal(cells.alive(pruned), living)
    assert torch.equal(cells.canonical_key(pruned), cells.canonical_key(some))
    for (x, y), before, after in zip(EDGES, some[:, :21].T, pruned[:, :21].T, strict=True):
        assert torch.equal(after, before * living[:, x] * living[:, y])
    assert torch.equal(pruned[:, 21:], some[:, 21:] * living[:, 1:6])
    assert torch.equal(cells.is_full(some), living.sum(-1) == 7)
    assert torch.equal(cells.connected(some), living.any(-1))


def test_alive_by_hand() -> None:
    # 1 leads nowhere, 2 comes from nowhere, 3 is on the path, 4 and 5 are unused
    some = cell((0, 1), (2, 6), (0, 3), (3, 6), operations=(1, 1, 2, 1, 1))
    assert cells.alive(some).tolist() == [[True, False, False, True, False, False, True]]
    assert torch.equal(cells.prune(some), cell((0, 3), (3, 6), operations=(0, 0, 2, 0, 0)))
    assert not cells.alive(cell((0, 1), (2, 6))).any()
    assert cells.canonical_key(cell((0, 1), (2, 6))).tolist() == [0]
    path = [(y, y + 1) for y in range(6)]
    assert cells.is_full(torch.cat([cell(*path), cell(*path[1:], (0, 6))])).tolist() == [True, False]


def test_smaller_cells_move_their_output_to_vertex_6() -> None:
    # 0 -> 1 -> 2 and 0 -> 2 of three vertices
    some = cells.embed(torch.tensor([3, 2]), torch.tensor([0b111, 1]), ["2", ""])
    assert torch.equal(some, torch.cat([cell((0, 1), (1, 6), (0, 6), operations=(2, 0, 0, 0, 0)), cell((0, 6))]))


def test_matrices_of_the_benchmark_and_rows_of_the_table_are_the_same_cells() -> None:
    for vertices, bits, operations, _ in KNOWN:
        matrix = torch.zeros(1, vertices, vertices, dtype=torch.int64)
        for x, y in EDGES:
            matrix[0, x, y] = bits >> cells.edge(x, y) & 1
        names = [["input", *(cells.OPERATIONS[int(o)] for o in operations), "output"]]
        expected = cells.embed(torch.tensor([vertices]), torch.tensor([bits]), [operations])
        assert torch.equal(cells.from_matrices(matrix, names), expected)


@pytest.mark.parametrize(
    ("vertices", "bits", "operations", "words"),
    [
        (8, 1, "000000", "cell 1: 8 vertices; .* 2 to 7"),
        (1, 0, "", "cell 1: 1 vertices"),
        (3, 0b1000, "0", "edge bits 8 do not fit 3 vertices"),
        (3, -1, "0", "edge bits -1 do not fit 3 vertices"),
        (3, 0b111, "00", "operations '00': 3 vertices have 1 operations"),
        (3, 0b111, "3", "operations '3': unknown operation; known are 0, 1 and 2"),
        (3, 0b111, "é", "operations 'é': unknown operation"),
    ],
)
def test_wrong_rows_of_a_table_are_named(vertices: int, bits: int, operations: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        cells.embed(torch.tensor([2, vertices]), torch.tensor([1, bits]), ["", operations])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (cell((0, 1), (2, 6)), "cell 1: no path of edges leads from input to output"),
        (cell(*EDGES), "cell 1: 21 edges; NAS-Bench-101 has at most 9"),
    ],
)
def test_check_names_the_rule(wrong: Tensor, words: str) -> None:
    with pytest.raises(UserError, match=words):
        cells.check(torch.cat([cell((0, 6)), wrong]))


def test_edges_are_counted_after_pruning() -> None:
    cells.check(cell((0, 6), *((x, y) for x, y in EDGES if y < 6)))


def test_module_hash_needs_a_path() -> None:
    with pytest.raises(UserError, match="cell 1: no path of edges"):
        cells.module_hash(torch.cat([cell((0, 6)), cell((0, 1))]))


@pytest.mark.parametrize(
    ("matrix", "names", "words"),
    [
        ([[0, 1], [1, 0]], ["input", "output"], "cell 0: the matrix must be strictly upper triangular"),
        ([[0, 2], [0, 0]], ["input", "output"], "cell 0: entries of the matrix must be 0 or 1"),
        ([[0, 0], [0, 0]], ["input", "output"], "cell 0: no path"),
        ([[0, 1], [0, 0]], ["input", "input"], "first 'input', last 'output'"),
        ([[0, 1], [0, 0]], ["input", "maxpool3x3", "output"], "2 vertices need 2 operations"),
        ([[0, 1, 0], [0, 0, 1], [0, 0, 0]], ["input", "conv9x9", "output"], "unknown operation 'conv9x9'; known are"),
        ([[0] * 8] * 8, ["input", *["maxpool3x3"] * 6, "output"], "cell 0: 8 vertices; NAS-Bench-101 has 2 to 7"),
    ],
)
def test_from_matrices_names_the_rule(matrix: list[list[int]], names: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        cells.from_matrices(torch.tensor([matrix]), [names])


def test_empty_populations() -> None:
    none = torch.empty(0, 26, dtype=torch.int64)
    assert cells.canonical_key(none).shape == (0,)
    assert cells.module_hash(none) == []
    assert cells.prune(none).shape == (0, 26)
    assert cells.embed(none[:, 0], none[:, 0], []).shape == (0, 26)
    cells.check(none)
