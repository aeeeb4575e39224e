"""The report's section on what a table of separately trained architectures says of the run."""

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from vaenas.records import Truth
from vaenas.report.figures import RASTER
from vaenas.report.run_data import RunData
from vaenas.report.svg import INK, LEARNED, SERIES, STYLE, UNIFORM, WIDTH


@rc_context(STYLE)
def truth_figure(truth: Truth) -> Figure:
    """Three panels: the supernet's order against the true one, the sampler's draws over time, the best of k draws."""
    figure = Figure(figsize=(WIDTH, 3.0))
    figure.set_layout_engine("constrained", wspace=0.06)
    order, time, best = (figure.add_subplot(1, 3, i + 1) for i in range(3))

    sample = truth.sample
    order.plot(
        100 * np.array(sample.truth), 100 * np.array(sample.scores), ".", color=SERIES, ms=3,
        rasterized=len(sample.truth) > RASTER,
    )  # fmt: skip
    if truth.best:
        order.axvline(100 * truth.best.accuracy, color=LEARNED, lw=0.9, ls="--")
    order.set(title="Supernet against truth", xlabel="True accuracy (%)", ylabel="Score on the supernet (%)")

    known = [(d.epoch, 100 * d.mean) for d in truth.draws if d.mean is not None]
    if known:
        time.plot(*np.array(known).T, "o-", color=LEARNED, ms=3)
    for value, colour in ((truth.mean, UNIFORM), (truth.optimum, INK)):
        time.axhline(100 * value, color=colour, lw=0.9, ls="--")
    time.set(title="True mean of the draws", xlabel="Epoch", ylabel="True accuracy (%)")

    for name, values, style, colour in (
        ("sampler", truth.best_of or {}, "o-", LEARNED), ("uniform", truth.uniform_best_of, "o--", UNIFORM)
    ):  # fmt: skip
        best.plot([*values], [100 * v for v in values.values()], style, color=colour, ms=3, label=name)
    best.axhline(100 * truth.optimum, color=INK, lw=0.9, ls="--")
    best.set(title="Best of k draws", xlabel="k", ylabel="True accuracy (%)")
    if truth.best_of or truth.uniform_best_of:
        best.set_xscale("log")
    best.legend(loc="lower right")
    return figure


def truth_part(data: RunData) -> tuple[str, Figure, str] | str:
    """The figure and its caption; nothing to say of a run without a table."""
    result = data.result
    truth = result.truth if result else None
    if not result or not truth:
        return ""
    found, answer = truth.best, result.best.code
    if not found:
        words = "Nothing that the search has evaluated stands in the table. "
    else:
        subject = f"The network found, {answer},"
        if found.code != answer:
            subject += f" is not in the table. Of what the search has evaluated and the table knows, {found.code}"
            subject += " has the highest predicted score: it"
        words = (
            f"{subject} has a true accuracy of {100 * found.accuracy:.2f} % and is number {found.rank:,} of "
            f"{truth.architectures:,} (dashed line on the left; the best has {100 * truth.optimum:.2f} %). "
        )
    names = {"kendall": "Kendall's tau", "spearman": "Spearman's rho", "kendall_top": "tau of the top 10 %"}
    taus = ", ".join(f"{name} {_shown(getattr(truth, key))}" for key, name in names.items())
    unknown = "" if truth.best_of else " (too few of the sampler's draws are in the table)"
    known = [draws.n for draws in truth.draws]
    of = f" ({min(known)} to {max(known)} that are in the table)" if known else " (this one has none)"
    return (
        "fig-truth",
        truth_figure(truth),
        f"What the table says. {truth.table} ({truth.measured}) was not looked at before the search had ended. "
        f"{words}Left: {len(truth.sample.truth)} architectures drawn uniformly from the table, ranked on the "
        f"final supernet: {taus}. Middle: true mean of the sampler's draws{of} after each update; dashed: the table's "
        f"mean and its best. Right: the expected best of k draws{unknown} and of k uniform ones.",
    )


def _shown(correlation: float | None) -> str:
    return "not defined" if correlation is None else f"{correlation:.2f}"
