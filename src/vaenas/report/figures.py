"""One function per figure of the report: records in, a matplotlib `Figure` out. Scores are drawn in percent.

No function touches pyplot's global state; `rc_context` gives each the report's style and takes it back.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from vaenas.errors import printable
from vaenas.records import Comparison, Evaluation, Generation, SearchResult, Surrogate, Train, Truth, Update
from vaenas.report.run_data import RunData
from vaenas.report.svg import INK, LEARNED, OPERATIONS, PAPER, SERIES, STYLE, UNIFORM, WIDTH, operation_colour

RASTER = 2000  # more points than this become one picture, so that the page stays small
FLOOR = 1e-3  # nats: what is drawn of an entropy that is 0 on a logarithmic axis
DASHED: dict[str, Any] = {"lw": 0.9, "ls": "--"}
WHOLE: dict[str, Any] = {"integer": True, "min_n_ticks": 1}  # ticks of what is counted


@rc_context(STYLE)
def training(train: Sequence[Train]) -> Figure:
    """Losses on the left axis, training accuracy and epsilon in percent on the right one, over epochs.

    Algorithm 2 has an epsilon, Algorithm 3 a second loss: of the architecture weights, on images of their own.
    """
    figure, (left,) = _figure(3.2)
    right = left.twinx()
    right.grid(False)
    epochs = [r.epoch for r in train]
    _line(left, epochs, [r.loss for r in train], color=SERIES, label="Training loss")
    _line(right, epochs, _percent(train, "accuracy"), color=INK, label="Training accuracy")
    mixed = all(r.epsilon is not None for r in train)
    if mixed:
        right.plot(epochs, _percent(train, "epsilon"), color=LEARNED, label="ε, share of learned draws", **DASHED)
    losses = [r.search_loss for r in train if r.search_loss is not None]
    if len(losses) == len(train):
        left.plot(epochs, losses, color=LEARNED, label="Loss of the architecture weights", **DASHED)
    left.set(xlabel="Epoch", ylabel="Training loss")
    right.set(ylim=(0, 103), ylabel="Training accuracy, ε (%)" if mixed else "Training accuracy (%)")
    figure.legend(loc="outside upper left", ncols=3)
    return figure


@rc_context(STYLE)
def sampler(updates: Sequence[Update]) -> Figure:
    """Small multiples over updates: entropy with its limit; KL, active units and reconstruction if they are there."""
    titles = {
        "entropy": "Entropy (nats)", "kl": "KL (nats)", "active_units": "Active units",
        "reconstruction": "Reconstruction (%)",
    }  # fmt: skip
    shown = [key for key in titles if any(getattr(u, key) is not None for u in updates)]
    figure, panels = _figure(2.5, len(shown))
    for axes, key in zip(panels, shown, strict=True):
        values = np.array([getattr(u, key) for u in updates], dtype=float)  # NaN for None
        _line(axes, range(1, len(updates) + 1), values * (100 if key == "reconstruction" else 1), color=SERIES)
        axes.set(title=titles[key], xlabel="Update", xlim=(0.75, len(updates) + 0.25))
        axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
        axes.locator_params("x", **WHOLE)
        if key == "entropy":
            # Mean over slots of log k: what a sampler that still draws uniformly has.
            limit = float(np.mean([math.log(len(row)) for row in updates[-1].probabilities] or [math.nan]))
            axes.axhline(limit, color=UNIFORM, label=f"uniform: {limit:.2f}", **DASHED)
            axes.legend(loc="upper right")
            axes.set_ylim(0, 1.25 * limit if limit > 0 else 1)
        elif key == "active_units":
            axes.locator_params("y", **WHOLE)
        elif key == "reconstruction":
            axes.set_ylim(0, 103)
    return figure


@rc_context(STYLE)
def probabilities(updates: Sequence[Update], operations: Sequence[str]) -> Figure:
    """Heat map: one row per slot and operation, grouped by slot; one column per update; opacity is probability.

    Args:
        updates: each with probabilities, s rows of k floats in [0, 1]; k may differ between slots.
        operations: names, numbers where there are too few.
    """
    widths = [len(row) for row in updates[-1].probabilities]
    # An empty row after each slot keeps the slots apart.
    columns = [[p for row in u.probabilities for p in (*row, 0.0)] for u in updates]
    opacity = np.clip(np.array(columns).T, 0, 1)  # (rows, updates)
    colours = np.array([to_rgb(operation_colour(i)) for width in widths for i in range(width + 1)])  # (rows, 3)
    rows, count = opacity.shape
    cells = np.dstack([np.broadcast_to(colours[:, None], (rows, count, 3)), opacity])

    figure, (axes,) = _figure(1.1 + rows * min(0.062, 12 / rows))
    axes.imshow(cells, aspect="auto", interpolation="none", extent=(0.5, count + 0.5, rows, 0))
    axes.grid(False)
    starts = np.cumsum([0, *(width + 1 for width in widths)])[:-1]
    axes.set_yticks(starts + np.array(widths) / 2, [str(i) for i in range(len(widths))])
    axes.set(xlabel="Update", ylabel="Slot")
    axes.locator_params("x", **WHOLE)
    names = [*operations, *(f"Operation {i}" for i in range(len(operations), max(widths)))]
    handles = [Patch(color=operation_colour(i), label=names[i]) for i in range(max(widths))]
    handles += [Patch(color=UNIFORM, alpha=p, label=f"probability {p:g}") for p in (0.1, 0.5, 1)]
    figure.legend(handles=handles, loc="outside upper left", ncols=4, handlelength=1, handleheight=1)
    return figure


@rc_context(STYLE)
def scores(updates: Sequence[Update], ranking_metric: str) -> Figure:
    """Sampled scores at each update: points, and boxes over them; learned and uniform draws apart."""
    figure, (axes,) = _figure(3.4)
    rng = np.random.default_rng(0)  # jitter only
    total = sum(len(u.scores) for u in updates)
    for label, colour, wanted, side in (("Uniform", UNIFORM, False, -0.2), ("Learned", LEARNED, True, 0.2)):
        groups: dict[float, list[float]] = {}
        for number, update in enumerate(updates, start=1):
            values = [100 * s for s, learned in zip(update.scores, update.learned, strict=True) if learned is wanted]
            if values:
                groups[number + side] = values
                spread = number + side + rng.uniform(-0.12, 0.12, len(values))
                axes.scatter(spread, values, s=7, color=colour, alpha=0.28, lw=0, rasterized=total > RASTER)
        share = sum(map(len, groups.values())) / total
        if groups:
            line = {"color": colour, "lw": 1.3}
            axes.boxplot(
                list(groups.values()), positions=list(groups), widths=0.24, whis=(10, 90), showfliers=False,
                showcaps=False, manage_ticks=False, label=f"{label} draws, {share:.0%}", boxprops=line,
                whiskerprops=line, medianprops=line,
            )  # fmt: skip
    axes.set(xlabel="Update", ylabel=f"{ranking_metric.capitalize()} (%)", xlim=(0.4, len(updates) + 0.6))
    axes.locator_params("x", **WHOLE)
    figure.legend(loc="outside upper left", ncols=2)
    return figure


@rc_context(STYLE)
def rounds(rounds: Sequence[Generation | Surrogate], ranking_metric: str, number: str) -> Figure:
    """Best and mean score of each; `number` is the field that counts them, "generation" or "round"."""
    figure, (axes,) = _figure(2.8)
    numbers = [getattr(r, number) for r in rounds]
    for label, key, colour in (("Best", "best", LEARNED), ("Mean", "mean", SERIES)):
        _line(axes, numbers, _percent(rounds, key), color=colour, label=label)
    axes.set(xlabel=number.capitalize(), ylabel=f"{ranking_metric.capitalize()} (%)")
    axes.locator_params("x", **WHOLE)
    figure.legend(loc="outside upper left", ncols=2)
    return figure


@rc_context(STYLE)
def pareto(result: SearchResult, max_flops: float | None, ranking_metric: str) -> Figure:
    """Predicted score against FLOPs in millions: what was evaluated, the Pareto steps, the best, the constraint."""
    figure, (axes,) = _figure(3.8)

    def points(of: Sequence[Evaluation]) -> tuple[list[float], list[float]]:
        return [e.flops / 1e6 for e in of], _percent(of, "predicted_score")

    evaluated, rastered = result.evaluations, len(result.evaluations) > RASTER
    axes.scatter(*points(evaluated), s=11, color=UNIFORM, alpha=0.45, lw=0, rasterized=rastered, label="Evaluated")
    steps = sorted(result.pareto, key=lambda entry: entry.flops)
    axes.step(*points(steps), where="post", color=SERIES, marker="o", ms=4, label="Pareto front")
    star: dict[str, Any] = {"marker": "*", "ms": 15, "mfc": LEARNED, "mec": PAPER, "mew": 0.8, "zorder": 5}
    axes.plot(*points([result.best]), ls="", label="Best", **star)
    if max_flops is not None:
        axes.axvline(max_flops / 1e6, color=INK, lw=1, ls=":", label=f"Limit, {max_flops / 1e6:,.4g} M")
    axes.set(xlabel="FLOPs (millions)", ylabel=f"{ranking_metric.capitalize()} (%)")
    figure.legend(loc="outside upper left", ncols=4)
    return figure


def standard_error(scores: Sequence[float]) -> float:
    """Of the mean; NaN with fewer than two scores."""
    return float(np.std(scores, ddof=1)) / math.sqrt(len(scores)) if len(scores) > 1 else math.nan


def difference(found: Comparison) -> tuple[float, float | None]:
    """Learned - uniform, of the means, and half of its 95 % interval: Welch's errors with the normal's 1.96."""
    half = 1.96 * math.hypot(standard_error(found.sampler), standard_error(found.uniform))
    return float(np.mean(found.sampler) - np.mean(found.uniform)), None if math.isnan(half) else half


@rc_context(STYLE)
def draws(found: Comparison, ranking_metric: str) -> Figure:
    """Learned against uniform draws: the mean with its 95 % interval, over the single scores."""
    figure, (axes,) = _figure(2.3)
    rng = np.random.default_rng(0)  # jitter only
    for row, (scores, colour) in enumerate(((found.sampler, LEARNED), (found.uniform, UNIFORM))):
        values = 100 * np.array(scores)
        heights = row + rng.uniform(0.02, 0.3, len(values))
        axes.scatter(values, heights, s=12, color=colour, alpha=0.4, lw=0, rasterized=len(values) > RASTER)
        at, half = (float(values.mean()), row - 0.14), 196 * standard_error(scores)
        axes.errorbar(*at, xerr=half, color=colour, marker="o", ms=6, elinewidth=2.4, capsize=4, capthick=1.6)
        axes.annotate(f"{at[0]:.2f} %", at, (0, 8), textcoords="offset points", ha="center", weight="bold")
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_yticks([0, 1], ["Learned", "Uniform"], color=INK, fontsize=9)
    axes.set(ylim=(1.5, -0.6), xlabel=f"{ranking_metric.capitalize()} (%)")
    return figure


@rc_context(STYLE)
def diversity(runs: Sequence[tuple[str, RunData]]) -> Figure:
    """Sec. 4.3's claims over epochs: log entropy per edge, architectures trained, what the derived network is made of.

    Args:
        runs: and their names. A learned sampler has an entropy of its own, drawn as a solid line; that of softmax(w)
            is dashed where there is another, its range over edges a band.
    """
    figure, panels = _figure(2.9, 4)
    entropy, distinct, free, params = panels
    titles = ("Entropy per edge (nats)", "Architectures trained", "Parameter-free (%)", "Parameters (M)")
    for panel, title in zip(panels, titles, strict=True):
        panel.set(title=title, xlabel="Epoch")
    colours = itertools.cycle((LEARNED, SERIES, *OPERATIONS[2:]))
    for (name, run), color in zip(runs, colours, strict=False):
        weights, updates = run.weights, run.updates
        epochs = [r.epoch for r in weights]
        entropies = np.maximum([r.entropy_of_weights for r in weights], FLOOR)  # (records, slots)
        _line(entropy, epochs, entropies.mean(1), ls="--" if updates else "-", color=color)
        entropy.fill_between(epochs, entropies.min(1), entropies.max(1), color=color, alpha=0.15, lw=0)
        if updates:
            _line(entropy, [u.epoch for u in updates], np.maximum([u.entropy for u in updates], FLOOR), color=color)
        _line(distinct, epochs, [r.distinct_so_far for r in weights], color=color, label=name)
        _line(free, epochs, _percent(weights, "parameter_free"), color=color)
        _line(params, epochs, [r.params / 1e6 for r in weights], color=color)
    entropy.set_yscale("log")
    entropy.yaxis.set_major_formatter("{x:.1g}")
    entropy.yaxis.set_minor_formatter("{x:.1g}")
    free.set_ylim(0, 103)
    for panel in (distinct, params):
        panel.set_ylim(bottom=0)
    figure.legend(handles=distinct.lines, loc="outside upper left", ncols=4)
    return figure


@rc_context(STYLE)
def truth(truth: Truth) -> Figure:
    """Three panels: the supernet's order against the true one, the sampler's draws over time, the best of k draws."""
    figure, (order, time, best) = _figure(3.0, 3)
    x, y = 100 * np.array(truth.sample.truth), 100 * np.array(truth.sample.scores)
    order.plot(x, y, ".", color=SERIES, ms=3, rasterized=len(x) > RASTER)
    if truth.best:
        order.axvline(100 * truth.best.accuracy, color=LEARNED, **DASHED)
    order.set(title="Supernet against truth", xlabel="True accuracy (%)", ylabel="Score on the supernet (%)")

    known = [d for d in truth.draws if d.mean is not None]
    _line(time, [d.epoch for d in known], _percent(known, "mean"), color=LEARNED)
    time.axhline(100 * truth.mean, color=UNIFORM, **DASHED)
    time.set(title="True mean of the draws", xlabel="Epoch", ylabel="True accuracy (%)")

    of = {"sampler": (truth.best_of or {}, LEARNED, "-"), "uniform": (truth.uniform_best_of, UNIFORM, "--")}
    for name, (values, color, style) in of.items():
        _line(best, list(values), [100 * v for v in values.values()], color=color, ls=style, label=name)
    best.set(title="Best of k draws", xlabel="k", ylabel="True accuracy (%)")
    for panel in (time, best):
        panel.axhline(100 * truth.optimum, color=INK, **DASHED)
    if truth.best_of or truth.uniform_best_of:
        best.set_xscale("log")
    best.legend(loc="lower right")
    return figure


@rc_context(STYLE)
def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> Figure:
    """Confusion matrix: one row per label, one column per guess, shares of the label's images; at most 30 are named."""
    counts = np.array(matrix, dtype=float)
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure, (axes,) = _figure(0.8 * WIDTH)
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


def _figure(height: float, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """Panels side by side, as wide as the page; `height` in inches."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, list(figure.subplots(1, panels, squeeze=False)[0])


def _percent(records: Sequence[Any], key: str) -> list[float]:
    return [100 * getattr(r, key) for r in records]


def _line(axes: Axes, x: Sequence[float], y: Any, **style: Any) -> None:
    """With points where it is short, so that a single value is seen."""
    axes.plot(x, y, marker="o" if len(x) <= 40 else "", ms=3.5, **style)
