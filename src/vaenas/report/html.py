"""`report.html`: one page, in one file, that says what a run found and how."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

import vaenas
from vaenas.errors import UserError
from vaenas.files import write_atomically
from vaenas.records import printable
from vaenas.report.figures import mean_difference
from vaenas.report.run_data import RunData, read_run
from vaenas.report.sections import compared, sections

# Proper names of the values of `space` and `sampler`; others are shown as they are.
NAMES = {
    "shufflenet": "ShuffleNet", "nasnet": "NASNet", "nasbench101": "NAS-Bench-101", "nasbench201": "NAS-Bench-201",
    "macro": "NAS-Bench-Macro", "vae": "VAE", "full": "full mixture",
}  # fmt: skip


def write_report(run: Path, against: Sequence[Path] = ()) -> Path:
    """Writes `run/report.html` from the files of the run directory alone, and gives its path.

    The page loads nothing from elsewhere and needs no JavaScript. A run that goes on or stopped early gives a report
    of what there is, which says so. A report that was there before stays whole until the new one is complete.

    Args:
        run: a run directory: config.yaml, metrics.jsonl and, once the search has ended, result.json and drawing.json.
        against: other runs of the gradient-based method in the same space, whose diversity is shown beside this one's.

    Raises:
        UserError: the folder or a file is missing, damaged, or not writable.
    """
    run = Path(run)
    data = read_run(run)
    data = replace(data, against=tuple(_comparable(data, Path(other)) for other in against))
    page = PAGE.get_template("page.html.j2").render(
        run=data, title=_title(data), cards=_cards(data), sections=sections(data), written=datetime.now().astimezone(),
        version=vaenas.__version__,
    )  # fmt: skip
    target = run / "report.html"
    write_atomically(target, page.encode())
    return target


def _comparable(data: RunData, folder: Path) -> RunData:
    other = read_run(folder)
    if not (data.weights and other.weights and data.settings.space == other.settings.space):
        raise UserError(
            f"--against {folder}: only runs with --method gradient in the same space are compared, and only once they "
            f"have a weights record; this one has {len(data.weights)}, that one {len(other.weights)}"
        )
    return other


def _title(data: RunData) -> str:
    space, sampler = data.settings.space, data.settings.sampler
    method = "gradient-based search" if data.gradient else "search"
    return f"{NAMES.get(space, space)} {method}, {NAMES.get(sampler, sampler)} sampler"


def _cards(data: RunData) -> list[tuple[str, str, str]]:
    """The key numbers: name, value, and a line of what it means."""
    cards: list[tuple[str, str, str]] = []
    result = data.result
    if result is not None:
        best = result.best
        cards += [
            (
                "Derived" if data.gradient else f"Best {data.ranking_metric}",
                _percent(best.score),
                "as the search scored it, not after training from scratch",
            ),
            ("FLOPs", _millions(best.flops), _limit(data)),
            ("Parameters", _millions(best.params), "of the best architecture"),
            ("Evaluated", f"{result.evaluated:,}", f"architectures, {len(result.pareto)} on the Pareto front"),
        ]
    pair = compared(data)
    if pair is not None:
        difference, half = mean_difference(*pair)
        interval = "no interval" if half != half else f"±\u00a0{100 * half:.2f} (95\u00a0%)"
        cards.append(
            ("Learned − uniform", f"{100 * difference:+.2f} points", f"mean {data.ranking_metric} of draws, {interval}")
        )
    if data.updates:
        entropy = data.updates[-1].entropy
        cards.append(("Updates", str(len(data.updates)), f"of the sampler, entropy now {entropy:.2f} nats"))
    if data.train:
        cards.append(("Epochs", f"{data.train[-1].epoch:.4g}", f"of the supernet, {data.train[-1].step:,} steps"))
    seconds = result.seconds if result else data.seconds
    if seconds is not None:
        cards.append(("Time", _duration(seconds), "for the whole run" if result else "until the last record"))
    return cards


def _limit(data: RunData) -> str:
    limit = data.settings.max_flops
    return "no limit was set" if limit is None else f"the limit was {_millions(limit)}"


def _setting(value: object) -> str:
    return yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6).removesuffix("...\n").strip()


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _millions(count: int | float) -> str:
    if count < 1e6:
        return f"{count / 1e3:.4g} K"
    return f"{count / 1e6:,.0f} M" if count >= 1e9 else f"{count / 1e6:.4g} M"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {whole % 60:02d} s" if minutes else f"{whole} s"


def _finalize(value: Any) -> Any:
    return printable(value) if type(value) is str else value  # Markup is the figures alone


# Every text is escaped here; what comes from a run is never part of a template.
PAGE = Environment(
    loader=PackageLoader("vaenas.report", ""), autoescape=True, undefined=StrictUndefined, finalize=_finalize,
    trim_blocks=True, lstrip_blocks=True,
)  # fmt: skip
PAGE.filters |= {"percent": _percent, "millions": _millions, "setting": _setting}
