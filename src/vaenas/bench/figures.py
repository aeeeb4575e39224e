"""Figures of benchmark results."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from vaenas.files import write_atomically


def save(figure: Figure, path: Path) -> None:
    """PNG, atomically."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    write_atomically(path, buffer.getvalue())


def draw_curves(summary: dict[str, Any], path: Path) -> None:
    """Regret (optimum - found) over labels, a line and its 95 % band for each method."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    smallest = []
    for method, points in summary["methods"].items():
        queries = [int(q) for q in points]
        regret = summary["optimum"] - np.array([p["mean"] for p in points.values()])
        half = np.array([p["ci95"] for p in points.values()])
        smallest += [r for r in regret if r > 0]
        (line,) = axes.plot(queries, regret, label=method)
        axes.fill_between(queries, regret - half, regret + half, color=line.get_color(), alpha=0.2, linewidth=0)
    if smallest:
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.5 * min(smallest))
    axes.set(xlabel="labels (all counted)", ylabel="regret: optimum - found")
    axes.set_title(f"{summary['table']}: {summary['reported']}; mean of {summary['seeds']} seeds, 95 % bands", size=9)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    save(figure, path)


def draw_fig2(shown: dict[tuple[str, float], list[float]], summary: dict[str, Any], path: Path) -> None:
    """Fig. 2: the distribution of the accuracies that samplers draw, one panel per noise."""
    levels = sorted({noise for _, noise in shown})
    figure = Figure(figsize=(4 * len(levels), 3.6), layout="constrained")
    for axes, level in zip(figure.subplots(1, len(levels), squeeze=False)[0], levels, strict=True):
        for (row, noise), accuracies in shown.items():
            if noise == level or row == "random":
                bins = [0.88 + 0.0015 * i for i in range(48)]
                axes.hist(accuracies, bins, density=True, histtype="step", label=row)
        axes.set_title(f"noise {100 * level:g} %", size=9)
        axes.set(xlabel="accuracy of the draws", ylabel="density")
        axes.legend(fontsize=7, loc="upper left")
    figure.suptitle(f"{summary['table']}: {summary['reported']}; {summary['draws']} draws of one sampler each", size=9)
    save(figure, path)
