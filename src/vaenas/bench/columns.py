"""Observations in a row, as files have them, to a table's columns."""

import numpy as np
import torch
from jaxtyping import Float, Float32, Integer
from torch import Tensor


def columns(
    rows: Integer[np.ndarray, "m"], budgets: Integer[np.ndarray, "m"], values: Float32[np.ndarray, "m c"]
) -> tuple[Float[Tensor, "n b r"], ...]:
    """c columns of a table from m observations.

    Args:
        rows: whose it is, in [0, n).
        budgets: at which of b budgets, in [0, b).
        values: what was observed, c values each.

    Returns:
        For each of the c kinds of value the n × b × r of the table, where r is the largest number of observations of
        one architecture at one budget. They are its runs, in the order in which they stand; NaN where there are fewer.
    """
    n, b = int(rows.max()) + 1, int(budgets.max()) + 1
    place = rows * b + budgets
    order = place.argsort(kind="stable")
    counts = np.bincount(place, minlength=n * b)
    run = np.empty_like(place)
    run[order] = np.arange(len(place)) - np.repeat(counts.cumsum() - counts, counts)
    table = np.full((values.shape[1], n, b, counts.max()), np.nan, dtype=np.float32)
    table[:, rows, budgets, run] = values.T
    return tuple(torch.from_numpy(column) for column in table)
