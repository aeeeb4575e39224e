"""`vaenas report`."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    against: Annotated[
        list[Path] | None, typer.Option(help="Another gradient-based run, to compare the diversity with.")
    ] = None,
) -> None:
    """Write RUN/report.html, one self-contained page."""
    from vaenas.report import write_report

    print(write_report(run, against or ()))
