"""`report.html`: one page, in one file, that says what a run found and how."""

import html
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from importlib import resources
from pathlib import Path

import numpy as np
import yaml

import vaenas
from vaenas.errors import UserError
from vaenas.files import write_atomically
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
    page = _page(replace(data, against=tuple(_comparable(data, Path(other)) for other in against)))
    target = run / "report.html"
    write_atomically(target, page.encode())
    return target


def _comparable(data: RunData, folder: Path) -> RunData:
    other = read_run(folder)
    if not (data.weights and other.weights and data.config.get("space") == other.config.get("space")):
        raise UserError(
            f"--against {folder}: only runs with --method gradient in the same space are compared, and only once they "
            f"have a weights record; this one has {len(data.weights)}, that one {len(other.weights)}"
        )
    return other


def _page(data: RunData) -> str:
    config = data.config
    space, sampler = (str(config.get(key, "unknown")) for key in ("space", "sampler"))
    method = "gradient-based search" if data.gradient else "search"
    title = f"{NAMES.get(space, space)} {method}, {NAMES.get(sampler, sampler)} sampler"
    style = resources.files("vaenas.report").joinpath("page.css").read_text(encoding="utf-8")
    version = data.result["version"] if data.result else vaenas.__version__
    written = datetime.now().astimezone()
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{html.escape(title)} · vaenas</title>
<link rel="icon" href="data:,">
<style>
{style}</style>
</head>
<body>
<header>
<p class="overline">Neural architecture search report</p>
<h1>{html.escape(title)}</h1>
{_unfinished(data)}<p class="verdict">{_verdict(data)}</p>
</header>
<main>
{_cards(data)}
{sections(data)}
{_comparison(data)}
{_front(data)}
<section>
<h2>Configuration</h2>
<details>
<summary>All {len(config)} settings of config.yaml</summary>
{_settings(data)}
</details>
</section>
</main>
<footer>
<p>Run <code>{html.escape(data.folder.resolve().name)}</code> · searched with vaenas {html.escape(version)} ·
report written <time datetime="{written.isoformat(timespec="seconds")}">{written:%d %B %Y, %H:%M %Z}</time>
by vaenas {vaenas.__version__}</p>
</footer>
</body>
</html>
"""


def _unfinished(data: RunData) -> str:
    """The note at the top of a run without result; empty for a finished one."""
    if data.result is not None:
        return ""
    torn = " The last line of metrics.jsonl is incomplete and was left out." if data.torn else ""
    return (
        '<p class="notice" role="status"><b>This run is not finished.</b> It is still going or was stopped early: '
        f"there is no result.json. The report shows what there is so far.{torn}</p>\n"
    )


def _verdict(data: RunData) -> str:
    """One sentence with the main figures, as HTML."""
    if data.result is not None:
        best, which = data.result["best"], "derived" if data.gradient else "best"
        return (
            f"The {which} architecture has a search {data.measure} of <b>{_percent(best['score'])}</b> with "
            f"<b>{_millions(best['flops'])} FLOPs</b> and <b>{_millions(best['params'])} parameters</b>: "
            f"<code>{html.escape(best['code'])}</code>."
        )
    if data.generations:
        best = max(g["best"] for g in data.generations)
        return f"So far, the evolutionary search has found an accuracy of <b>{_percent(best)}</b>."
    if data.train:
        last = data.train[-1]
        return (
            f"So far, the supernet has trained for <b>{last['epoch']:.4g} epochs</b> and has a training accuracy of "
            f"<b>{_percent(last['accuracy'])}</b>."
        )
    return "So far, the run has recorded nothing that can be shown."


def _cards(data: RunData) -> str:
    """The key numbers: name, value, and a line of what it means."""
    cards: list[tuple[str, str, str]] = []
    result = data.result
    if result is not None:
        best = result["best"]
        cards += [
            (
                "Derived" if data.gradient else f"Best {data.measure}",
                _percent(best["score"]),
                "as the search scored it, not after training from scratch",
            ),
            ("FLOPs", _millions(best["flops"]), _limit(data)),
            ("Parameters", _millions(best["params"]), "of the best architecture"),
            ("Evaluated", f"{result['evaluated']:,}", f"architectures, {len(result['pareto'])} on the Pareto front"),
        ]
    pair = compared(data)
    if pair is not None:
        difference, half = mean_difference(*pair)
        interval = "no interval" if half != half else f"±\u00a0{100 * half:.2f} (95\u00a0%)"
        cards.append(
            ("Learned − uniform", f"{100 * difference:+.2f} points", f"mean {data.measure} of draws, {interval}")
        )
    if data.updates:
        entropy = data.updates[-1]["entropy"]
        cards.append(("Updates", str(len(data.updates)), f"of the sampler, entropy now {entropy:.2f} nats"))
    if data.train:
        cards.append(("Epochs", f"{data.train[-1]['epoch']:.4g}", f"of the supernet, {data.train[-1]['step']:,} steps"))
    seconds = result["seconds"] if result else _last_seconds(data)
    if seconds is not None:
        cards.append(("Time", _duration(seconds), "for the whole run" if result else "until the last record"))
    items = "".join(
        f'<div class="card"><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>'
        f'<dd class="words">{html.escape(words)}</dd></div>'
        for name, value, words in cards
    )
    return f'<dl class="cards">{items}</dl>' if cards else ""


def _limit(data: RunData) -> str:
    limit = data.config.get("max_flops")
    return "no limit was set" if limit is None else f"the limit was {_millions(limit)}"


def _front(data: RunData) -> str:
    """The table of the Pareto front, cheapest first, the best marked."""
    if data.result is None or not data.result["pareto"]:
        return ""
    best = data.result["best"]["code"]
    rows = "".join(
        f"<tr{' class=best' if e['code'] == best else ''}><td><code>{html.escape(e['code'])}</code>"
        f"{'<span class=tag>best</span>' if e['code'] == best else ''}</td>"
        f"<td>{_percent(e['score'])}</td><td>{_percent(e['worth'])}</td>"
        f"<td>{_millions(e['flops'])}</td><td>{_millions(e['params'])}</td></tr>"
        for e in sorted(data.result["pareto"], key=lambda e: e["flops"])
    )
    return (
        '<section><h2>Pareto front</h2><div class="scroll"><table><thead><tr><th scope="col">Architecture</th>'
        f'<th scope="col">{data.measure.capitalize()}</th><th scope="col">Worth (what the search chose by)</th>'
        '<th scope="col">FLOPs</th>'
        '<th scope="col">Parameters</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _comparison(data: RunData) -> str:
    """The table of this run and those it is compared with, at their ends."""
    if not data.against:
        return ""
    rows = ""
    for run in (data, *data.against):
        last = run.weights[-1]
        entropy = run.updates[-1]["entropy"] if run.updates else float(np.mean(last["entropy_of_weights"]))
        accuracy = "not finished" if run.result is None else _percent(run.result["best"]["score"])
        cells = (
            str(run.config.get("sampler")), str(run.config.get("seed")), f"{entropy:.3f}",
            f"{last['distinct_so_far']:,}", _percent(last["parameter_free"]), _millions(last["params"]), accuracy,
        )  # fmt: skip
        rows += "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
    heads = (
        "Sampler", "Seed", "Entropy of what is drawn (nats)", "Architectures trained", "Parameter-free", "Parameters",
        "Search accuracy of the derived network",
    )  # fmt: skip
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    return (
        '<section><h2>Samplers compared</h2><div class="scroll"><table><thead><tr>'
        f"{head}</tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _settings(data: RunData) -> str:
    rows = "".join(
        f'<tr><th scope="row">{html.escape(str(key))}</th><td><code>{html.escape(_setting(value))}</code></td></tr>'
        for key, value in data.config.items()
    )
    return f'<table class="settings"><tbody>{rows}</tbody></table>'


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


def _last_seconds(data: RunData) -> float | None:
    records: Iterable[dict] = [
        *data.train,
        *data.updates,
        *data.generations,
        *([data.comparison] if data.comparison else []),
    ]
    return max((r["seconds"] for r in records if isinstance(r.get("seconds"), int | float)), default=None)
