"""`vaenas show`: the facts of one architecture."""

import json
from typing import Annotated

import typer

from vaenas.commands.options import Classes, Code, Genotype, ImageSize, Layers, Space, SpaceFile, Width


def show(
    code: Code = None,
    space: Space = None,
    space_file: SpaceFile = None,
    genotype: Genotype = None,
    layers: Layers = None,
    width: Width = None,
    image_size: ImageSize = None,
    classes: Classes = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print an architecture's parameters, multiply-adds, genotype."""
    from rich.console import Console
    from rich.table import Table

    from vaenas.commands.architecture import choose

    sizes = {"layers": layers, "width": width, "image_size": image_size, "classes": classes}
    facts = choose(code, space, genotype, sizes, space_file).facts()
    if as_json:
        print(json.dumps(facts))
        return
    table = Table(show_header=False)
    for name, value in facts.items():
        shown = "none" if value is None else f"{value:,}" if type(value) is int else str(value)
        table.add_row(name, shown)
    Console(markup=False).print(table)
