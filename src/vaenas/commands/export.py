"""`vaenas export`."""

from pathlib import Path
from typing import Annotated

import typer

from vaenas.commands.options import Force, SpaceFile, Trained
from vaenas.export import ENDINGS


def export(
    source: Trained,
    form: Annotated[str, typer.Option("-f", "--format", metavar="|".join(ENDINGS), help="What to write.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Default: beside the weights.")] = None,
    force: Force = False,
    space_file: SpaceFile = None,
) -> None:
    """Write a trained network for others, with a model card (model.md for model.onnx) beside it."""
    from vaenas.export.export import export
    from vaenas.networks.space_file import load_space_of

    load_space_of(source if source.is_dir() else source.parent, space_file)
    print(export(source, form, output, force))
