"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

Code = Annotated[str | None, typer.Argument(metavar="CODE|RUN", help="An architecture's code, or a run directory.")]
Space = Annotated[str | None, typer.Option(help="Search space (default: the one whose codes look so).")]
SpaceFile = Annotated[Path | None, typer.Option(help="Python file that registers a space of your own.")]
Genotype = Annotated[str | None, typer.Option(help='DARTS\'s form: "Genotype(normal=[...], ...)".')]
Layers = Annotated[int | None, typer.Option(min=1, max=1000, help="Of the network.")]
Width = Annotated[float | None, typer.Option(help="shufflenet, macro: multiplies all channels; others: channels.")]
ImageSize = Annotated[int | None, typer.Option(max=1024, help="Side of the images in pixels [32].")]
Classes = Annotated[int | None, typer.Option(max=10**6, help="Number of classes [10].")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that are there already.")]
