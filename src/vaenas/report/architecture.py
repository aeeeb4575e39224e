"""Draws an architecture as the paper's Figs. 3 to 5 do: coloured blocks in stages, or cells as graphs."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from statistics import mean
from typing import Any, NamedTuple

import networkx
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path

from vaenas.documents import checked
from vaenas.drawings import Cell, Drawing, Operation, Slot
from vaenas.report.svg import GRID, INK, MUTED, STYLE, WIDTH, operation_colour

# Lengths are points (1/72 inch) of a figure as wide as the page's column; y grows downwards.
PAGE = 72 * WIDTH
LEFT, RIGHT = 78.0, PAGE - 8.0  # the column of boxes; stage names stand left of it
TOP, HEIGHT, GAP, PITCH = 36.0, 38.0, 16.0, 64.0
NODE, NODE_HEIGHT, HEAD = 40.0, 28.0, 22.0  # of cells: boxes, and the room for a cell's name
ROW, THIN = 36.0, 14.0  # between the middles of two boxes of a cell's column, and of two lines that pass there
BLOCK, PILL, SWATCH, KEY_PITCH = 42.0, 26.0, 20.0, 26.0
SHAPE_FACE, SHAPE_INK = "#ffefb8", "#5b4300"
DARK, LIGHT, LAYER_FACE = "#14181f", "#fefefe", "#c9ced6"  # not the theme's: on a coloured face in either scheme
SWEEPS = 12  # of the ordering; the crossings change no more after some
Point = tuple[float, float]


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
    figure = Figure()
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    axes.text(8, 14, drawing.title, fontsize=10, weight="bold", va="center")
    if drawing.cells:
        top = TOP
        for cell in drawing.cells:
            top = _draw_cell(axes, cell, drawing.operations, top)
        top += GAP
    else:
        top = _draw_sequence(axes, drawing)
    height = _draw_key(axes, drawing.operations, top)
    axes.set(xlim=(0, PAGE), ylim=(height, 0))
    figure.set_size_inches(WIDTH, height / 72)
    return figure


def _draw_sequence(axes: Axes, drawing: Drawing) -> float:
    """Lines of boxes; a row too long for the page goes on in the next line, without a name. Gives their lower end."""
    rows = [("input", [_shape(drawing.input), *map(_layer, drawing.before)])]
    for group in drawing.groups:
        blocks = [_operation(drawing.operations, s.operation, str(s.slot), BLOCK) for s in group.slots]
        rows.append((group.name, [*blocks, _shape(group.output)]))
    if drawing.after:
        rows.append(("output", [_layer(text) for text in drawing.after]))
    top, end = TOP, None
    for name, boxes in rows:
        axes.text(8, top + HEIGHT / 2, name, va="center", color=MUTED, weight="bold")
        for line in _wrap(boxes):
            middle = top + HEIGHT / 2
            if end is not None:  # from the line before, below its last box
                into, bend = LEFT + min(line[0][1].width, BLOCK) / 2, top - (PITCH - HEIGHT) / 2
                _arrow(axes, [end, (end[0], bend), (into, bend), (into, middle - line[0][1].height / 2)])
            for x, box in line:
                if x > LEFT:
                    _arrow(axes, [(x - GAP, middle), (x, middle)])
                _draw_box(axes, x, middle, box)
                end = x + box.width - min(box.width, 2 * BLOCK) / 2, middle + box.height / 2
            top += PITCH
    return top


def _draw_cell(axes: Axes, cell: Cell, operations: list[Operation], top: float) -> float:
    """Curves first, so that boxes lie on them. Gives the cell's lower end."""
    axes.text(8, top + 6, f"{cell.name} cell" if cell.name != "cell" else "", va="center", color=MUTED, weight="bold")
    placed = layout(cell)
    scale = (RIGHT - NODE - 8) / max(1, placed.columns - 1)

    def place(x: float, y: float) -> Point:
        return 8 + NODE / 2 + scale * x, top + HEAD + y

    for route in placed.routes:
        points = [place(x, y) for x, y in route]
        # Each box is left and entered horizontally, so that curves part and meet at its sides.
        (x0, y0), (x1, y1) = points[0], points[-1]
        points[0], points[-1] = (x0 + NODE / 2 - 4, y0), (x1 - NODE / 2, y1)
        curve = points[:1]
        for (x0, y0), (x1, y1) in pairwise(points):
            curve += [((x0 + x1) / 2, y0), ((x0 + x1) / 2, y1), (x1, y1)]
        _arrow(axes, curve, curved=True)
    for node, at in zip(cell.nodes, placed.places, strict=True):
        if isinstance(node, Slot):
            box = _operation(operations, node.operation, str(node.slot), NODE)
        else:
            box = Box(node.text, NODE, LAYER_FACE, DARK)
        x, middle = place(*at)
        _draw_box(axes, x - NODE / 2, middle, replace(box, height=NODE_HEIGHT))
    return top + HEAD + placed.height


class Layout(NamedTuple):
    """Where everything of a cell stands: x in columns from 0, y in points downwards from 0."""

    places: list[Point]  # of the nodes
    routes: list[list[Point]]  # of the edges, from node to node through the columns between
    columns: int
    height: float


def layout(cell: Cell) -> Layout:
    """Layered drawing after Sugiyama et al. 1981: columns by longest path, points where lines pass, barycentres."""
    graph = networkx.DiGraph()
    graph.add_nodes_from(range(len(cell.nodes)))
    graph.add_edges_from(cell.edges)
    column: dict[Hashable, int] = {
        node: depth for depth, nodes in enumerate(networkx.topological_generations(graph)) for node in nodes
    }
    for node in reversed(list(networkx.topological_sort(graph))):  # as far right as what follows allows: short lines
        after = [column[target] for target in graph.successors(node)]
        if after and graph.in_degree(node):
            column[node] = min(after) - 1

    routes: list[list[Hashable]] = []
    for source, target in cell.edges:
        between = [(source, target, x) for x in range(column[source] + 1, column[target])]
        column |= {point: point[2] for point in between}
        routes.append([source, *between, target])
    lines = networkx.DiGraph(edge for route in routes for edge in pairwise(route))
    lines.add_nodes_from(column)
    layers = [[point for point in column if column[point] == x] for x in range(max(column.values(), default=-1) + 1)]

    rank = {point: i - (len(layer) - 1) / 2 for layer in layers for i, point in enumerate(layer)}
    for sweep in range(SWEEPS):  # from the left by what comes before, then from the right by what follows
        beside, ordered = ((lines.pred, layers), (lines.succ, layers[::-1]))[sweep % 2]
        for layer in ordered:
            layer.sort(key=lambda point: mean([rank[other] for other in beside[point]] or [rank[point]]))
            rank |= {point: i - (len(layer) - 1) / 2 for i, point in enumerate(layer)}

    y: dict[Hashable, float] = {}
    for layer in layers:
        steps = [THIN if isinstance(a, tuple) and isinstance(b, tuple) else ROW for a, b in pairwise(layer)]
        y |= dict(zip(layer, accumulate(steps, initial=-sum(steps) / 2), strict=True))
    top, bottom = min(y.values(), default=0.0) - ROW / 2, max(y.values(), default=0.0) + ROW / 2
    place = {point: (float(x), y[point] - top) for point, x in column.items()}
    return Layout(
        [place[node] for node in range(len(cell.nodes))], [[place[point] for point in route] for route in routes],
        len(layers), bottom - top,
    )  # fmt: skip


def _operation(operations: list[Operation], index: int, note: str, width: float) -> Box:
    face = operation_colour(index)
    red, green, blue = to_rgb(face)
    light = 0.299 * red + 0.587 * green + 0.114 * blue  # luma, ITU-R BT.601
    return Box(operations[index].symbol, width, face, DARK if light > 0.5 else LIGHT, note, bold=True)


def _shape(text: str) -> Box:
    return Box(text, _text_width(text) + 20, SHAPE_FACE, SHAPE_INK, height=PILL, corner=PILL / 2)


def _layer(text: str) -> Box:
    return Box(text, _text_width(text) + 18, LAYER_FACE, DARK)


def _text_width(text: str, size: float = 8.5) -> float:
    return 0.62 * size * len(text)  # DejaVu Sans: 0.6 em a letter on average; a little room is no harm


def _wrap(boxes: Sequence[Box]) -> list[list[tuple[float, Box]]]:
    """Lines of boxes and where they begin, GAP between two of them; one wider than a line has one for itself."""
    lines: list[list[tuple[float, Box]]] = [[]]
    x = LEFT
    for box in boxes:
        if lines[-1] and x + box.width > RIGHT:
            lines.append([])
            x = LEFT
        lines[-1].append((x, box))
        x += box.width + GAP
    return lines


def _draw_key(axes: Axes, operations: list[Operation], top: float) -> float:
    keys = [_operation(operations, i, o.name, SWATCH + 8 + _text_width(o.name)) for i, o in enumerate(operations)]
    for line in _wrap(keys):
        middle = top - 4 + SWATCH / 2
        for x, box in line:
            _draw_box(axes, x, middle, replace(box, width=SWATCH, height=SWATCH, corner=4, note=""))
            axes.text(x + SWATCH + 6, middle, box.note, va="center", color=INK)
        top += KEY_PITCH
    return top


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


def _arrow(axes: Axes, points: list[Point], curved: bool = False) -> None:
    path = Path(points, [Path.MOVETO] + [Path.CURVE4 if curved else Path.LINETO] * (len(points) - 1))
    head = "-|>,head_width=1.5,head_length=2.7"
    axes.add_patch(FancyArrowPatch(path=path, arrowstyle=head, color=MUTED, lw=0.9))
