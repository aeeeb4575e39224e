"""`vaenas show` and `vaenas draw`: the facts and the picture of one architecture; how commands print and draw."""

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from vaenas.commands.options import ARCHITECTURE, Force, Json, with_options
from vaenas.errors import UserError
from vaenas.files import refuse_to_replace, write_atomically


@with_options(ARCHITECTURE)
def show(as_json: Json = False, **which: Any) -> None:
    """Print an architecture's parameters, multiply-adds, genotype."""
    from vaenas.commands.architecture import choose, facts

    found = facts(*choose(**which))
    if as_json:
        print(json.dumps(found))
        return
    texts = {type(None): lambda _: "none", int: "{:,}".format}
    print_table((name, texts.get(type(value), str)(value)) for name, value in found.items())


@with_options(ARCHITECTURE)
def draw(
    output: Annotated[Path, typer.Option("-o", "--output", help="FILE.svg or FILE.png.")],
    force: Force = False,
    **which: Any,
) -> None:
    """Draw an architecture: cells as graphs, sequences as blocks in stages."""
    from vaenas.commands.architecture import choose
    from vaenas.report import draw_architecture

    check_picture(output, "--output", force)
    space, architecture = choose(**which)
    write_figure(output, draw_architecture(space.drawing(architecture)))
    print(output)


def print_table(rows: Iterable[tuple[str, str]]) -> None:
    """Names and what they have."""
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False)
    for row in rows:
        table.add_row(*row)
    Console(markup=False).print(table)


def check_picture(path: Path, name: str, force: bool) -> None:
    """Raises `UserError` if no picture can be written there; `name` is the option."""
    if path.suffix.lower() not in (".svg", ".png"):
        raise UserError(f"{path}: a picture must end in .svg or .png")
    refuse_to_replace(path, name, force)


def write_figure(path: Path, figure: Any) -> None:
    """Writes a matplotlib figure atomically, on white."""
    kind, buffer = path.suffix.lower().removeprefix("."), io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=150, facecolor="white", metadata={"Date": None} if kind == "svg" else None)
    write_atomically(path, buffer.getvalue())
