"""How far one order agrees with another: the correlations that supernets and predictors are judged by."""

import warnings

from jaxtyping import Num
from scipy import stats
from torch import Tensor


def kendall_tau(a: Num[Tensor, "n"], b: Num[Tensor, "n"]) -> float:
    """Kendall's tau-b in [-1, 1], which takes ties into account (Kendall 1945); NaN if all of a or all of b is tied."""
    return float(stats.kendalltau(a.numpy(), b.numpy()).statistic)


def spearman_rho(a: Num[Tensor, "n"], b: Num[Tensor, "n"]) -> float:
    """Spearman's rho in [-1, 1]: the correlation of the ranks, tied ones averaged; NaN if all of a or b is tied."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        return float(stats.spearmanr(a.numpy(), b.numpy()).statistic)
