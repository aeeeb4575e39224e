"""One function per figure of the report: records in, a matplotlib `Figure` out. Scores are drawn in percent.

No function touches pyplot's global state; `rc_context` gives each the report's style and takes it back.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from vaenas.records import Evaluation, Generation, Part, SearchResult, Surrogate, Train, Truth, Update, Weights
from vaenas.report.run_data import Comparisons, standard_error
from vaenas.report.svg import INK, LEARNED, MUTED, PAPER, SERIES, STYLE, UNIFORM, WIDTH, operation_colour

RASTER = 2000  # more points than this become one picture, so that the page stays small
FLOOR = 1e-3  # nats: what is drawn of an entropy that is 0 on a logarithmic axis


@rc_context(STYLE)
def training(train: Sequence[Train]) -> Figure:
    """Losses on the left axis, training accuracy and epsilon in percent on the right one, over epochs.

    Algorithm 2 has an epsilon, Algorithm 3 a second loss: of the architecture weights, on images of their own.
    """
    figure, (left,) = _figure(3.2)
    right = left.twinx()
    right.grid(False)
    mixed = all(r.epsilon is not None for r in train)
    right.set(ylim=(0, 103), ylabel="Training accuracy, ε (%)" if mixed else "Training accuracy (%)")
    epochs = [r.epoch for r in train]
    marked = {"marker": _marker(epochs), "ms": 3}
    dashed = {"color": LEARNED, "lw": 0.9, "ls": "--"}
    lines = [
        *left.plot(epochs, [r.loss for r in train], color=SERIES, **marked, label="Training loss"),
        *right.plot(epochs, _percent(train, "accuracy"), color=INK, **marked, label="Training accuracy"),
    ]
    if mixed:
        lines += right.plot(epochs, _percent(train, "epsilon"), **dashed, label="ε, share of learned draws")
    losses = [r.search_loss for r in train if r.search_loss is not None]
    if len(losses) == len(train):
        lines += left.plot(epochs, losses, **dashed, label="Loss of the architecture weights")
    left.set(xlabel="Epoch", ylabel="Training loss")
    figure.legend(handles=lines, loc="outside upper left", ncols=3)
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
        scale = 100 if key == "reconstruction" else 1
        values = [math.nan if (value := getattr(u, key)) is None else scale * value for u in updates]
        axes.plot(range(1, len(updates) + 1), values, color=SERIES, marker=_marker(values), ms=3.5)
        axes.set(title=titles[key], xlabel="Update", xlim=(0.75, len(updates) + 0.25))
        axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
        _whole_ticks(axes.xaxis, 5)
        if key == "entropy":
            # Mean over slots of log k: what a sampler that still draws uniformly has.
            limit = float(np.mean([math.log(len(row)) for row in updates[-1].probabilities] or [math.nan]))
            axes.axhline(limit, color=UNIFORM, ls="--", lw=1)
            axes.annotate(
                f"uniform: {limit:.2f}", (1, limit), (0, 3), ("axes fraction", "data"), textcoords="offset points",
                ha="right", va="bottom", color=MUTED, fontsize=8,
            )  # fmt: skip
            axes.set_ylim(0, 1.18 * limit if limit > 0 else 1)
        elif key == "active_units":
            _whole_ticks(axes.yaxis, 5)
        elif key == "reconstruction":
            axes.set_ylim(0, 103)
    return figure


@rc_context(STYLE)
def probabilities(updates: Sequence[Update], operations: Sequence[str]) -> Figure:
    """Heat map: one row per slot and operation, grouped by slot; one column per update; opacity is probability.

    Args:
        updates: each with probabilities, s rows of k floats in [0, 1]; k may differ between slots.
        operations: names of at least k.
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
    _whole_ticks(axes.xaxis, 12)
    handles = [Patch(color=operation_colour(i), label=_in_legend(operations[i])) for i in range(max(widths))]
    figure.legend(handles=handles, loc="outside upper left", ncols=4, handlelength=1, handleheight=1)

    scale = axes.inset_axes((1.015, 0.7, 0.014, 0.3))
    grey = np.tile((*to_rgb(UNIFORM), 0.0), (50, 1, 1))
    grey[..., 3] = np.linspace(0, 1, 50)[:, None]
    scale.imshow(grey, aspect="auto", interpolation="none", origin="lower", extent=(0, 1, 0, 1))
    scale.grid(False)
    scale.set(xticks=[], yticks=[0, 0.5, 1], ylabel="Probability")
    scale.yaxis.tick_right()
    scale.yaxis.set_label_position("right")
    scale.spines[["left", "bottom"]].set_visible(False)
    return figure


@rc_context(STYLE)
def scores(updates: Sequence[Update], ranking_metric: str) -> Figure:
    """Sampled scores at each update: points, 10-90 % and quartile bars, median; learned and uniform draws apart."""
    figure, (axes,) = _figure(3.4)
    rng = np.random.default_rng(0)  # jitter only
    rastered = sum(len(u.scores) for u in updates) > RASTER
    for label, colour, wanted, side in (("Uniform draws", UNIFORM, False, -0.2), ("Learned draws", LEARNED, True, 0.2)):
        groups = []
        for number, update in enumerate(updates, start=1):
            values = [100 * s for s, learned in zip(update.scores, update.learned, strict=True) if learned is wanted]
            if values:
                groups.append((number + side, np.array(values)))
        for x, values in groups:
            spread = x + rng.uniform(-0.12, 0.12, len(values))
            axes.scatter(spread, values, s=7, color=colour, alpha=0.28, lw=0, rasterized=rastered)
        if groups:
            at = [x for x, _ in groups]
            low, first, middle, third, high = np.array([np.percentile(v, (10, 25, 50, 75, 90)) for _, v in groups]).T
            axes.vlines(at, low, high, color=colour, lw=1)
            axes.vlines(at, first, third, color=colour, lw=max(1.5, 5 - 0.05 * len(updates)), label=label)
            axes.plot(at, middle, ls="", marker="o", ms=4.5, mfc=PAPER, mec=colour, mew=1.3)
    axes.set(xlabel="Update", ylabel=f"{ranking_metric.capitalize()} (%)", xlim=(0.4, len(updates) + 0.6))
    _whole_ticks(axes.xaxis, 12)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside upper left", ncols=2)
    return figure


@rc_context(STYLE)
def rounds(rounds: Sequence[Generation | Surrogate], ranking_metric: str, number: str) -> Figure:
    """Best and mean score of each; `number` is the field that counts them, "generation" or "round"."""
    figure, (axes,) = _figure(2.8)
    numbers = [getattr(r, number) for r in rounds]
    for label, key, colour in (("Best", "best", LEARNED), ("Mean", "mean", SERIES)):
        axes.plot(numbers, _percent(rounds, key), color=colour, marker=_marker(numbers), ms=3.5, label=label)
    axes.set(xlabel=number.capitalize(), ylabel=f"{ranking_metric.capitalize()} (%)")
    _whole_ticks(axes.xaxis, 12)
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
    axes.margins(0.05)
    figure.legend(loc="outside upper left", ncols=4)
    return figure


@rc_context(STYLE)
def draws(found: Comparisons, ranking_metric: str) -> Figure:
    """Learned against uniform draws: the mean with its 95 % interval, over the single scores if they were kept."""
    figure, (axes,) = _figure(2.3)
    rng = np.random.default_rng(0)  # jitter only
    for row, (summary, colour) in enumerate(((found.learned, LEARNED), (found.uniform, UNIFORM))):
        if found.scores is not None:
            values = 100 * np.array(found.scores[row])
            heights = row + rng.uniform(0.02, 0.3, len(values))
            axes.scatter(values, heights, s=12, color=colour, alpha=0.4, lw=0, rasterized=len(values) > RASTER)
        at, half = (100 * summary.mean, row - 0.14), 196 * (standard_error(summary) or 0.0)
        axes.errorbar(*at, xerr=half, color=colour, marker="o", ms=6, elinewidth=2.4, capsize=4, capthick=1.6)
        axes.annotate(
            f"{100 * summary.mean:.2f} %", at, (0, 8), textcoords="offset points", ha="center", color=INK, weight="bold"
        )
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_yticks([0, 1], ["Learned", "Uniform"], color=INK, fontsize=9)
    axes.set(ylim=(1.5, -0.6), xlabel=f"{ranking_metric.capitalize()} (%)")
    return figure


@rc_context(STYLE)
def diversity(runs: Mapping[str, tuple[Sequence[Weights], Sequence[Update]]]) -> Figure:
    """Sec. 4.3's claims over epochs: log entropy per edge, architectures trained, what the derived network is made of.

    Args:
        runs: for each name its records. The sampler of updates has an entropy of its own, drawn as
            a solid line; that of softmax(w) is dashed where there is another, its range over edges a band.
    """
    figure, panels = _figure(2.9, 4)
    entropy, distinct, free, params = panels
    titles = ("Entropy per edge (nats)", "Architectures trained", "Parameter-free (%)", "Parameters (M)")
    for panel, title in zip(panels, titles, strict=True):
        panel.set(title=title, xlabel="Epoch")
    colours = [LEARNED, SERIES, *(operation_colour(i) for i in (2, 3, 5, 6))]
    for (name, (weights, updates)), colour in zip(runs.items(), itertools.cycle(colours), strict=False):
        epochs = [r.epoch for r in weights]
        style = {"color": colour, "marker": _marker(epochs), "ms": 3}
        entropies = np.maximum([r.entropy_of_weights for r in weights], FLOOR)  # (records, slots)
        entropy.plot(epochs, entropies.mean(1), ls="--" if updates else "-", **style)
        entropy.fill_between(epochs, entropies.min(1), entropies.max(1), color=colour, alpha=0.15, lw=0)
        if updates:
            entropy.plot([u.epoch for u in updates], np.maximum([u.entropy for u in updates], FLOOR), **style)
        distinct.plot(epochs, [r.distinct_so_far for r in weights], label=_in_legend(name), **style)
        free.plot(epochs, _percent(weights, "parameter_free"), **style)
        params.plot(epochs, [r.params / 1e6 for r in weights], **style)
    entropy.set_yscale("log")
    for ticks in (entropy.yaxis.set_major_formatter, entropy.yaxis.set_minor_formatter):
        ticks(lambda value, _: f"{value:.1g}")
    free.set_ylim(0, 103)
    for panel in (distinct, params):
        panel.set_ylim(bottom=0)
    figure.legend(*distinct.get_legend_handles_labels(), loc="outside upper left", ncols=4)
    return figure


@rc_context(STYLE)
def truth(truth: Truth) -> Figure:
    """Three panels: the supernet's order against the true one, the sampler's draws over time, the best of k draws."""
    figure, (order, time, best) = _figure(3.0, 3)
    x, y = 100 * np.array(truth.sample.truth), 100 * np.array(truth.sample.scores)
    order.plot(x, y, ".", color=SERIES, ms=3, rasterized=len(x) > RASTER)
    if truth.best:
        order.axvline(100 * truth.best.accuracy, color=LEARNED, lw=0.9, ls="--")
    order.set(title="Supernet against truth", xlabel="True accuracy (%)", ylabel="Score on the supernet (%)")

    known = [(d.epoch, 100 * d.mean) for d in truth.draws if d.mean is not None]
    if known:
        time.plot(*np.array(known).T, "o-", color=LEARNED, ms=3)
    time.axhline(100 * truth.mean, color=UNIFORM, lw=0.9, ls="--")
    time.set(title="True mean of the draws", xlabel="Epoch", ylabel="True accuracy (%)")

    for name, values, style, colour in (
        ("sampler", truth.best_of or {}, "o-", LEARNED), ("uniform", truth.uniform_best_of, "o--", UNIFORM)
    ):  # fmt: skip
        best.plot([*values], [100 * v for v in values.values()], style, color=colour, ms=3, label=name)
    best.set(title="Best of k draws", xlabel="k", ylabel="True accuracy (%)")
    for panel in (time, best):
        panel.axhline(100 * truth.optimum, color=INK, lw=0.9, ls="--")
    if truth.best_of or truth.uniform_best_of:
        best.set_xscale("log")
    best.legend(loc="lower right")
    return figure


def _figure(height: float, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """Panels side by side, as wide as the page; `height` in inches."""
    figure = Figure(figsize=(WIDTH, height))
    figure.set_layout_engine("constrained", **({"wspace": 0.06} if panels > 1 else {}))
    return figure, [figure.add_subplot(1, panels, i + 1) for i in range(panels)]


def _percent(records: Sequence[Part], key: str) -> list[float]:
    return [100 * getattr(r, key) for r in records]


def _in_legend(name: str) -> str:
    """matplotlib leaves names that begin with an underscore out of legends."""
    return f" {name}" if name.startswith("_") else name


def _whole_ticks(axis: Axis, most: int) -> None:
    axis.set_major_locator(MaxNLocator(integer=True, nbins=most, min_n_ticks=1))


def _marker(values: Sequence[Any]) -> str:
    """Points on short series, so that a single value is seen; none on long ones."""
    return "o" if len(values) <= 40 else ""
