"""`vaenas export`."""

from pathlib import Path
from typing import Annotated

import typer

from vaenas.commands.options import FORCE
from vaenas.export.formats import ENDINGS


def export(
    source: Annotated[Path, typer.Argument(metavar="RUN|WEIGHTS", help="A training's folder, or a file of weights.")],
    form: Annotated[str, typer.Option("-f", "--format", metavar="|".join(ENDINGS), help="What to write.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Default: beside the weights.")] = None,
    force: FORCE = False,
) -> None:
    """Write a trained network for others, with a model card (model.md for model.onnx) beside it."""
    from vaenas.export.export import export

    print(export(source, form, output, force))
