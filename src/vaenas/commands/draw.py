"""`vaenas draw`: a picture of one architecture; and how every command writes pictures."""

import io
from pathlib import Path
from typing import Annotated, Any

import typer

from vaenas.commands.options import Classes, Code, Force, Genotype, ImageSize, Layers, Space, SpaceFile, Width
from vaenas.errors import UserError
from vaenas.files import refuse_to_replace, write_atomically


def draw(
    output: Annotated[Path, typer.Option("-o", "--output", help="FILE.svg or FILE.png.")],
    code: Code = None,
    space: Space = None,
    space_file: SpaceFile = None,
    genotype: Genotype = None,
    layers: Layers = None,
    width: Width = None,
    image_size: ImageSize = None,
    classes: Classes = None,
    force: Force = False,
) -> None:
    """Draw an architecture: cells as graphs, sequences as blocks in stages."""
    from vaenas.commands.architecture import choose
    from vaenas.report import draw_architecture

    check_picture(output)
    refuse_to_replace(output, "--output", force)
    sizes = {"layers": layers, "width": width, "image_size": image_size, "classes": classes}
    chosen = choose(code, space, genotype, sizes, space_file)
    write_figure(output, draw_architecture(chosen.space.drawing(chosen.architecture)))
    print(output)


def check_picture(path: Path) -> str:
    """How the path ends, "svg" or "png"; raises `UserError` if it ends otherwise."""
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("svg", "png"):
        raise UserError(f"{path}: a picture must end in .svg or .png")
    return kind


def write_figure(path: Path, figure: Any) -> None:
    """Writes a matplotlib figure atomically, on white."""
    kind, buffer = check_picture(path), io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=150, facecolor="white", metadata={"Date": None} if kind == "svg" else None)
    write_atomically(path, buffer.getvalue())
