"""How far one order agrees with another: the correlations that supernets and predictors are judged by."""

import warnings
from collections.abc import Callable
from typing import Any

from jaxtyping import Num
from scipy import stats
from torch import Tensor


def kendall_tau(a: Num[Tensor, "n"], b: Num[Tensor, "n"]) -> float:
    """Kendall's tau-b in [-1, 1], which takes ties into account (Kendall 1945); NaN if all of a or all of b is tied."""
    return _statistic(stats.kendalltau, a, b)


def spearman_rho(a: Num[Tensor, "n"], b: Num[Tensor, "n"]) -> float:
    """Spearman's rho in [-1, 1]: the correlation of the ranks, tied ones averaged; NaN if all of a or b is tied."""
    return _statistic(stats.spearmanr, a, b)


def _statistic(test: Callable[..., Any], a: Tensor, b: Tensor) -> float:
    with warnings.catch_warnings(action="ignore"):  # of ties and of too few values: the answer is NaN
        return float(test(a.numpy(), b.numpy()).statistic)
