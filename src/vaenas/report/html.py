"""`report.html`: one page, in one file, that says what a run found and how. Its words are in `page.html.j2`."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

import vaenas
from vaenas.constraints import readable
from vaenas.errors import UserError, printable
from vaenas.files import write_atomically
from vaenas.report import figures
from vaenas.report.architecture import draw_architecture
from vaenas.report.run_data import read_run
from vaenas.report.svg import to_svg

# Proper names of the values of `space` and `sampler`; others are shown as they are.
NAMES = {
    "shufflenet": "ShuffleNet", "nasnet": "NASNet", "nasbench101": "NAS-Bench-101", "nasbench201": "NAS-Bench-201",
    "macro": "NAS-Bench-Macro", "vae": "VAE", "mixture": "softmax(w), full mixture", "two-path": "softmax(w), two-path",
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
    data, *others = runs = [read_run(folder) for folder in (run, *map(Path, against))]
    for folder, other in zip(against, others, strict=True):
        if not (data.weights and other.weights and data.settings.space == other.settings.space):
            raise UserError(
                f"--against {folder}: only runs with --method gradient in the same space are compared, and only once "
                f"they have a weights record; this one has {len(data.weights)}, that one {len(other.weights)}"
            )
    samplers = [one.sampler for one in runs]  # the folder tells two of one sampler apart
    names = [one.sampler if samplers.count(one.sampler) == 1 else f"{one.sampler}, {one.name}" for one in runs]
    page = PAGE.get_template("page.html.j2").render(
        run=data, runs=list(zip(names, runs, strict=True)), written=datetime.now().astimezone(),
        version=vaenas.__version__,
    )  # fmt: skip
    target = run / "report.html"
    write_atomically(target, page.encode())
    return target


def _duration(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {whole % 60:02d} s" if minutes else f"{whole} s"


def _setting(value: object) -> str:
    return yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6).removesuffix("...\n").strip()


# Every text is escaped here; what comes from a run is never part of a template. Markup is the figures alone.
PAGE = Environment(
    loader=PackageLoader("vaenas.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
    lstrip_blocks=True, finalize=lambda value: printable(value) if type(value) is str else value,
)  # fmt: skip
PAGE.filters |= {
    "percent": lambda share: f"{100 * share:.2f} %", "readable": readable, "duration": _duration, "setting": _setting,
    "svg": to_svg, "named": lambda name: NAMES.get(name, name),
}  # fmt: skip
PAGE.globals |= {"figures": figures, "draw_architecture": draw_architecture}
