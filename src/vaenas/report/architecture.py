"""Draws an architecture as the paper's Figs. 3 to 5 do: coloured blocks in stages, or cells as graphs."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path

from vaenas.documents import checked
from vaenas.drawings import Drawing, Operation, Slot
from vaenas.report.cells import Layout, layout
from vaenas.report.svg import GRID, INK, MUTED, STYLE, WIDTH, operation_colour

# Lengths are points (1/72 inch) of a figure as wide as the page's column; y grows downwards.
PAGE = 72 * WIDTH
LEFT, RIGHT = 78.0, PAGE - 8.0  # the column of boxes; stage names stand left of it
TOP, HEIGHT, GAP, PITCH = 36.0, 38.0, 16.0, 64.0
NODE, NODE_HEIGHT, HEAD = 40.0, 28.0, 22.0  # of cells: boxes, and the room for a cell's name
BLOCK, PILL, SWATCH, KEY_PITCH = 42.0, 26.0, 20.0, 26.0
SHAPE_FACE, SHAPE_INK = "#ffefb8", "#5b4300"
DARK, LIGHT, LAYER_FACE = "#14181f", "#fefefe", "#c9ced6"  # not the theme's: on a coloured face in either scheme


@dataclass(frozen=True)
class Box:
    """One box of the drawing; `note` is the slot's number in a block, the operation's name in the key."""

    text: str
    width: float
    face: str
    ink: str
    note: str = ""
    height: float = HEIGHT
    corner: float = 5
    bold: bool = False


@rc_context(STYLE)
def draw_architecture(drawing: Drawing | dict[str, Any]) -> Figure:
    """Draws what `drawing.json` describes, blocks in stages or cells.

    Args:
        drawing: or a dict with its keys.

    Returns:
        A figure of `WIDTH` inches, as high as the architecture needs.

    Raises:
        UserError: a key is missing or has the wrong type, or an operation is not in the list.
    """
    if isinstance(drawing, dict):
        drawing = checked(Drawing, drawing, "drawing")
    operations = drawing.operations
    keys = [_operation(operations, i, o.name, SWATCH + 8 + _text_width(o.name, 8.5)) for i, o in enumerate(operations)]
    key_lines = _wrap(keys)
    cells = [layout(cell) for cell in drawing.cells]
    lines = [] if cells else _sequence(drawing)
    content = PITCH * len(lines) + sum(HEAD + cell.height for cell in cells) + (GAP if cells else 0)

    height = TOP + content + KEY_PITCH * len(key_lines)
    figure = Figure(figsize=(WIDTH, height / 72))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, PAGE), ylim=(height, 0))
    axes.axis("off")
    axes.text(8, 14, drawing.title, fontsize=10, weight="bold", va="center")
    end = None
    for i, (name, boxes) in enumerate(lines):
        end = _draw_line(axes, name, boxes, TOP + PITCH * i, end)
    top = TOP
    for cell in cells:
        _draw_cell(axes, cell, operations, top)
        top += HEAD + cell.height
    for i, line in enumerate(key_lines):
        _draw_key(axes, line, TOP + content + KEY_PITCH * i - 4 + SWATCH / 2)
    return figure


def _sequence(drawing: Drawing) -> list[tuple[str, list[Box]]]:
    """Lines of boxes and their names; a row too long for the page goes on in the next line, without a name."""
    rows = [("input", [_shape(drawing.input), *map(_layer, drawing.before)])]
    for group in drawing.groups:
        blocks = [_operation(drawing.operations, s.operation, str(s.slot), BLOCK) for s in group.slots]
        rows.append((group.name, [*blocks, _shape(group.output)]))
    if drawing.after:
        rows.append(("output", [_layer(text) for text in drawing.after]))
    return [(name if i == 0 else "", line) for name, boxes in rows for i, line in enumerate(_wrap(boxes))]


def _draw_cell(axes: Axes, cell: Layout, operations: list[Operation], top: float) -> None:
    """Curves first, so that boxes lie on them."""
    axes.text(8, top + 6, f"{cell.name} cell" if cell.name != "cell" else "", va="center", color=MUTED, weight="bold")
    scale = (RIGHT - NODE - 8) / max(1, cell.columns - 1)

    def place(x: float, y: float) -> tuple[float, float]:
        return 8 + NODE / 2 + scale * x, top + HEAD + y

    for route in cell.routes:
        points = [place(x, y) for x, y in route]
        # Each box is left and entered horizontally, so that curves part and meet at its sides.
        ways = list(itertools.pairwise(points))
        vertices, codes = [(points[0][0] + NODE / 2 - 4, points[0][1])], [Path.MOVETO]
        for i, ((x0, y0), (x1, y1)) in enumerate(ways):
            start = x0 + NODE / 2 - 4 if i == 0 else x0
            end = x1 - NODE / 2 if i == len(ways) - 1 else x1
            middle = (start + end) / 2
            vertices += [(middle, y0), (middle, y1), (end, y1)]
            codes += [Path.CURVE4] * 3
        axes.add_patch(PathPatch(Path(vertices, codes), fc="none", ec=MUTED, lw=0.9))
        x, y = vertices[-1]
        _arrow(axes, (x - 3, y), (x + 1, y))
    for (x, y), node in zip(cell.places, cell.nodes, strict=True):
        left, middle = place(x, y)[0] - NODE / 2, place(x, y)[1]
        if isinstance(node, Slot):
            box = _operation(operations, node.operation, str(node.slot), NODE)
        else:
            box = Box(node.text, NODE, LAYER_FACE, DARK)
        _draw_box(axes, left, middle, replace(box, height=NODE_HEIGHT))


def _operation(operations: list[Operation], index: int, note: str, width: float) -> Box:
    face = operation_colour(index)
    red, green, blue = to_rgb(face)
    light = 0.299 * red + 0.587 * green + 0.114 * blue  # luma, ITU-R BT.601
    return Box(operations[index].symbol, width, face, DARK if light > 0.5 else LIGHT, note, bold=True)


def _shape(text: str) -> Box:
    return Box(text, _text_width(text, 8.5) + 20, SHAPE_FACE, SHAPE_INK, height=PILL, corner=PILL / 2)


def _layer(text: str) -> Box:
    return Box(text, _text_width(text, 8.5) + 18, LAYER_FACE, DARK)


def _text_width(text: str, size: float) -> float:
    return 0.62 * size * len(text)  # DejaVu Sans: 0.6 em a letter on average; a little room is no harm


def _wrap(boxes: Sequence[Box]) -> list[list[Box]]:
    """Fills lines from LEFT to RIGHT, GAP between two boxes; a box wider than a line has one for itself."""
    lines: list[list[Box]] = [[]]
    x = LEFT
    for box in boxes:
        if lines[-1] and x + box.width > RIGHT:
            lines.append([])
            x = LEFT
        lines[-1].append(box)
        x += box.width + GAP
    return lines


def _draw_line(
    axes: Axes, name: str, boxes: list[Box], top: float, came_from: tuple[float, float] | None
) -> tuple[float, float]:
    """Draws one line of boxes and the arrows into them; gives the point where the next line's arrow starts."""
    middle = top + HEIGHT / 2
    axes.text(8, middle, name, va="center", color=MUTED, weight="bold")
    if came_from is not None:
        x, bottom = came_from
        into, bend = LEFT + min(boxes[0].width, BLOCK) / 2, top - (PITCH - HEIGHT) / 2
        axes.plot([x, x, into], [bottom, bend, bend], color=MUTED, lw=1, solid_joinstyle="round")
        _arrow(axes, (into, bend), (into, middle - boxes[0].height / 2))
    x = LEFT
    for i, box in enumerate(boxes):
        if i:
            _arrow(axes, (x - GAP, middle), (x, middle))
        _draw_box(axes, x, middle, box)
        x += box.width + GAP
    return x - GAP - min(boxes[-1].width, 2 * BLOCK) / 2, middle + boxes[-1].height / 2


def _draw_key(axes: Axes, boxes: list[Box], middle: float) -> None:
    x = LEFT
    for box in boxes:
        _draw_box(axes, x, middle, replace(box, width=SWATCH, height=SWATCH, corner=4, note=""))
        axes.text(x + SWATCH + 6, middle, box.note, va="center", color=INK)
        x += box.width + GAP


def _draw_box(axes: Axes, x: float, middle: float, box: Box) -> None:
    """With its text, smaller where the box is too narrow, and its note below that."""
    shape = f"round,pad=0,rounding_size={box.corner}"
    corner = (x, middle - box.height / 2)
    axes.add_patch(FancyBboxPatch(corner, box.width, box.height, boxstyle=shape, fc=box.face, ec=GRID, lw=0.6))
    size = min(10.5 if box.note else 8.5, (box.width - 4) / max(_text_width(box.text, 1), 1e-9))
    style: dict[str, Any] = {"ha": "center", "va": "center", "color": box.ink}
    above, below = (0.13 * box.height, 0.26 * box.height) if box.note else (0, 0)
    weight = "bold" if box.bold else "normal"
    axes.text(x + box.width / 2, middle - above, box.text, fontsize=size, weight=weight, **style)
    axes.text(x + box.width / 2, middle + below, box.note, fontsize=6.5, **style)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    style = {"arrowstyle": "-|>,head_width=0.18,head_length=0.32", "color": MUTED, "lw": 1, "shrinkA": 0, "shrinkB": 1}
    axes.annotate("", end, start, arrowprops=style)
