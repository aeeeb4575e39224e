"""Correlations of orders, against their definitions."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vaenas.evaluation.rank import kendall_tau, spearman_rho

values = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=30)


@given(values)
def test_kendall_counts_pairs(pairs: list[tuple[int, int]]) -> None:
    a, b = torch.tensor(pairs).T
    signs = [(x[0] > y[0]) - (x[0] < y[0]) for x, y in itertools.combinations(pairs, 2)]
    others = [(x[1] > y[1]) - (x[1] < y[1]) for x, y in itertools.combinations(pairs, 2)]
    ordered = math.sqrt(sum(map(abs, signs)) * sum(map(abs, others)))
    found = kendall_tau(a, b)
    if not ordered:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(sum(s * o for s, o in zip(signs, others, strict=True)) / ordered)


@given(values)
def test_spearman_is_the_correlation_of_average_ranks(pairs: list[tuple[int, int]]) -> None:
    def ranks(numbers: list[int]) -> torch.Tensor:
        order = sorted(numbers)
        return torch.tensor([order.index(n) + (order.count(n) - 1) / 2 for n in numbers], dtype=torch.float64)

    a, b = (list(column) for column in zip(*pairs, strict=True))
    expected = float(torch.corrcoef(torch.stack([ranks(a), ranks(b)]))[0, 1])
    assert spearman_rho(torch.tensor(a), torch.tensor(b)) == pytest.approx(expected, nan_ok=True)


def test_more_values_than_are_compared_at_once() -> None:
    a = torch.arange(3000.0)
    assert kendall_tau(a, a**3) == 1
    assert kendall_tau(a, -a) == -1
    assert spearman_rho(a, -a) == pytest.approx(-1)
