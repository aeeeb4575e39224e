"""NAS-Bench-201 and NAS-Bench-Macro are the tables' spaces."""

import csv
import itertools
import json

import pytest
import torch

from tests.real_data import SHARED
from vaenas.errors import UserError
from vaenas.spaces.macro import macro_space
from vaenas.spaces.nasbench201 import OPERATIONS, NASBench201Space, parse, prune

CELL = "|none~0|+|skip_connect~0|nor_conv_1x1~1|+|nor_conv_3x3~0|avg_pool_3x3~1|none~2|"


def test_slots_follow_the_cell_string() -> None:
    assert parse(CELL) == [0, 1, 2, 3, 4, 0]
    assert NASBench201Space().encode(torch.tensor([parse(CELL)])) == ["n-s1-3pn"]


def test_parse_and_cell_strings_are_inverse_on_the_whole_space() -> None:
    population = torch.tensor(list(itertools.product(range(len(OPERATIONS)), repeat=6)))
    space = NASBench201Space()
    assert [parse(space.own_text(row)) for row in population] == population.tolist()
    assert space.is_valid(population).all()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (CELL.replace("none~2", "none~1"), r"NAS-Bench-201 writes \|op~0\|\+\|op~0\|op~1\|"),
        (CELL[:-1], "NAS-Bench-201 writes"),
        (CELL + "\n", "NAS-Bench-201 writes"),
        ("", "cell '': NAS-Bench-201 writes"),
        (CELL.replace("skip_connect", "skip"), "unknown operation 'skip'; known are none, skip_connect, "),
    ],
)
def test_wrong_cell_strings_are_named(wrong: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse(wrong)


def test_the_table_has_every_cell_of_the_space() -> None:
    path = SHARED / "nas-bench-201" / "cells.csv"
    if not path.is_file():
        pytest.skip(f"needs {path}: name its folder in VAENAS_SHARED_DATA")
    with path.open(newline="") as file:
        strings = [row["cell"] for row in csv.DictReader(file)]
    population = torch.tensor([parse(cell) for cell in strings])
    assert [NASBench201Space().own_text(row) for row in population] == strings
    assert len(population.unique(dim=0)) == len(population) == 5**6


def test_prune_keeps_exactly_the_edges_on_paths_from_input_to_output() -> None:
    population = torch.tensor(list(itertools.product(range(len(OPERATIONS)), repeat=6)))
    paths = [(3,), (0, 4), (1, 5), (0, 2, 5)]  # all ways from node 0 to node 3, as edges
    expected = torch.zeros_like(population)
    for path in paths:
        whole = (population[:, path] != 0).all(1)
        for edge in path:
            expected[whole, edge] = population[whole, edge]
    assert torch.equal(prune(population), expected)
    assert torch.equal(prune(expected), expected)


def test_cells_that_prune_to_the_same_were_trained_to_nearly_the_same_accuracy() -> None:
    path = SHARED / "nas-bench-201" / "cells.csv"
    if not path.is_file():
        pytest.skip(f"needs {path}: name its folder in VAENAS_SHARED_DATA")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    accuracy = torch.tensor([float(row["cifar10_test_200ep"]) for row in rows])
    trained = accuracy > 20  # not a network without a path, which guesses
    pruned = prune(torch.tensor([parse(row["cell"]) for row in rows]))[trained]
    _, group = pruned.unique(dim=0, return_inverse=True)
    accuracy, counts = accuracy[trained], group.bincount()
    means = torch.zeros(len(counts)).index_add(0, group, accuracy) / counts
    within = (accuracy - means[group])[counts[group] > 1].std()
    assert within < 0.15 * accuracy.std()


def test_codes_of_nasbench_macro_are_the_keys_of_its_table() -> None:
    path = SHARED / "nas-bench-macro" / "nas-bench-macro_cifar10.json"
    if not path.is_file():
        pytest.skip(f"needs {path}: name its folder in VAENAS_SHARED_DATA")
    keys = list(json.loads(path.read_text()))
    population = macro_space().decode(keys)
    assert macro_space().encode(population) == keys
    assert len(population.unique(dim=0)) == 3**8


def test_decode_takes_the_benchmarks_own_string() -> None:
    space = NASBench201Space()
    assert space.decode([CELL, "n-s1-3pn"]).tolist() == [[0, 1, 2, 3, 4, 0]] * 2
    assert space.own_text(space.decode(["n-s1-3pn"])[0]) == CELL
    assert space.decode([]).shape == (0, 6)
    with pytest.raises(UserError, match="NAS-Bench-201 writes"):
        space.decode(["|" * 10_000])
