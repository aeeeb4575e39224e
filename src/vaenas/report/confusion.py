"""The picture of an evaluation."""

from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from vaenas.errors import printable
from vaenas.report.svg import INK, PAPER, STYLE, WIDTH


@rc_context(STYLE)
def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> Figure:
    """Confusion matrix: one row per label, one column per guess, shares of the label's images; at most 30 are named."""
    counts = np.array(matrix, dtype=float)
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(WIDTH, WIDTH * 0.8), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    axes.grid(False)
    axes.set(xlabel="Guess", ylabel="Label")
    if len(classes) <= 30:
        names = [printable(name if len(name) <= 30 else f"{name[:29]}…") for name in classes]
        axes.set_xticks(range(len(names)), names, rotation=60, ha="right")
        axes.set_yticks(range(len(names)), names)
    if len(classes) <= 15:
        for (row, column), share in np.ndenumerate(shares):
            axes.text(column, row, f"{share:.0f}", ha="center", va="center", color=PAPER if share > 50 else INK)
    figure.colorbar(image, ax=axes, label="Share of the label's images (%)", shrink=0.7)
    return figure
