"""How far one order agrees with another: the correlations that supernets and predictors are judged by."""

import torch
from jaxtyping import Float, Num
from torch import Tensor


def kendall_tau(a: Num[Tensor, "n"], b: Num[Tensor, "n"]) -> float:
    """Kendall's tau-b in [-1, 1], which takes ties into account (Kendall 1945); NaN if all of a or all of b is tied.

    Pairs that both order alike minus those ordered otherwise, over the root of the pairs that a orders times those that
    b orders. All pairs at once: n = 10,000 takes some seconds.
    """
    agreed = a_orders = b_orders = 0
    for i in range(0, len(a), 1024):
        of_a = (a[i : i + 1024, None] - a).sign().to(torch.int8)
        of_b = (b[i : i + 1024, None] - b).sign().to(torch.int8)
        agreed += int((of_a * of_b).sum())
        a_orders += int((of_a != 0).sum())
        b_orders += int((of_b != 0).sum())
    return agreed / (a_orders * b_orders) ** 0.5 if a_orders and b_orders else float("nan")


def spearman_rho(a: Num[Tensor, "n"], b: Num[Tensor, "n"]) -> float:
    """Spearman's rho in [-1, 1]: the correlation of the ranks, tied ones averaged; NaN if all of a or b is tied."""
    ranks = torch.stack([_ranks(a), _ranks(b)])
    return float(torch.corrcoef(ranks)[0, 1])


def _ranks(values: Num[Tensor, "n"]) -> Float[Tensor, "n"]:
    """0 for the lowest; equal values share the mean of their ranks."""
    _, group, counts = values.unique(return_inverse=True, return_counts=True)
    first = counts.cumsum(0) - counts
    return (first + (counts - 1) / 2).double()[group]
