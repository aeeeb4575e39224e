"""Orders: how far one agrees with another, which supernets and predictors are judged by; and several as one."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Num
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


def mean_rank(measures: Num[Tensor, "n m"]) -> Float[Tensor, "n"]:
    """The geometric mean over m measures of rank / n, in (0, 1]: 1 is the highest in all; tied ranks are averaged.

    The sum of log ranks, by which AZ-NAS combines measures (Lee & Ham 2024), on another scale: who is among the last in
    one measure hardly recovers.
    """
    ranks = torch.from_numpy(stats.rankdata(measures.numpy(), axis=0))
    return (ranks / len(measures)).log().mean(1).exp().float()
