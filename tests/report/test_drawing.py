"""The drawn architecture: every slot, layer and shape is there, inside the page; bad drawings are named."""

from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from vaenas.drawings import Cell
from vaenas.errors import UserError
from vaenas.networks import NetworkConfig, space_class
from vaenas.report import draw_architecture
from vaenas.report.architecture import layout
from vaenas.report.svg import operation_colour

from .conftest import SLOTS, make_drawing


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_every_part_is_drawn_in_its_operation_s_colour():
    drawing = make_drawing([i % 4 for i in range(SLOTS)])
    figure = draw_architecture(drawing)
    drawn = texts(figure)
    layers = [drawing["input"], *drawing["before"], *drawing["after"], *(g["output"] for g in drawing["groups"])]
    for part in (drawing["title"], *layers, *map(str, range(SLOTS))):
        assert part in drawn
    faces = [patch.get_facecolor() for patch in figure.axes[0].patches]
    for operation in range(4):
        assert sum(_same(face, operation_colour(operation)) for face in faces) == SLOTS // 4 + 1  # blocks and the key


@pytest.mark.parametrize("slots", [1, 14, 40])
def test_long_rows_wrap_inside_the_page(slots: int):
    drawing = make_drawing([0] * SLOTS)
    many = [{"slot": i, "operation": i % 8} for i in range(slots)]
    operations = [{"symbol": f"sep{i}", "name": f"Separate Convolution {i}x{i}"} for i in range(8)]
    drawing |= {"groups": [{"name": "cell", "output": "10", "slots": many}], "operations": operations}
    figure = draw_architecture(drawing)
    width = figure.get_figwidth() * 72
    boxes = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    assert len(boxes) >= slots
    for box in boxes:
        x, y, w, h = box.get_bbox().bounds
        assert 0 <= x < x + w <= width
        assert 0 <= y < y + h <= figure.get_figheight() * 72


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cells": []}, "must have either groups or cells"),
        ({"title": 3}, "title: must be a valid string .3."),
        ({"groups": [{"name": "a", "output": "b"}]}, r"groups\.0\.slots: Field required"),
        ({"groups": [{"name": "a", "output": "b", "slots": [{"slot": 7, "operation": 4}]}]}, "slot 7 has operation 4"),
    ],
)
def test_bad_drawing_is_named(change: dict[str, Any], words: str):
    with pytest.raises(UserError, match=words):
        draw_architecture(make_drawing([0] * SLOTS) | change)


RNG = torch.Generator().manual_seed(0)
NASNET, OF101, OF201, MACRO = (
    space_class(name)(NetworkConfig(32, 3, 10, width, layers))
    for name, width, layers in (("nasnet", 36, 20), ("nasbench101", 128, 3), ("nasbench201", 16, 5), ("macro", 1, 8))
)
CELLS = {
    "nasnet": [NASNET.drawing(a) for a in NASNET.space.uniform(3, RNG)],
    "nasnet, every edge": [NASNET.drawing(torch.arange(28) % 7 + 1)],
    "nasbench101": [OF101.drawing(a) for a in OF101.space.uniform(4, RNG)],
    "nasbench201": [OF201.drawing(a) for a in OF201.space.uniform(4, RNG)],
    "nasbench201, nothing": [OF201.drawing(torch.zeros(6, dtype=torch.int64))],
}


@pytest.mark.parametrize("drawings", CELLS.values(), ids=CELLS.keys())
def test_cells_are_drawn_whole_inside_the_page_and_no_box_lies_on_another(drawings: list[dict[str, Any]]):
    for drawing in drawings:
        figure = draw_architecture(drawing)
        boxes = [p.get_bbox() for p in figure.axes[0].patches if isinstance(p, FancyBboxPatch)]
        count = sum(len(cell["nodes"]) for cell in drawing["cells"]) + len(drawing["operations"])
        assert len(boxes) == count
        arrows = [p for p in figure.axes[0].patches if isinstance(p, FancyArrowPatch)]
        assert len(arrows) == sum(len(cell["edges"]) for cell in drawing["cells"])
        width, height = figure.get_figwidth() * 72, figure.get_figheight() * 72
        for i, box in enumerate(boxes):
            assert 0 <= box.x0 < box.x1 <= width
            assert 0 <= box.y0 < box.y1 <= height
            assert not any(box.overlaps(other) for other in boxes[:i])
        drawn = texts(figure)
        for node in (node for cell in drawing["cells"] for node in cell["nodes"]):
            assert str(node.get("text", node.get("slot"))) in drawn


def test_lines_of_a_cell_pass_no_box():
    """Routes go through points of their own in every column between, so they cross no box."""
    for drawing in CELLS["nasnet, every edge"] + CELLS["nasbench101"]:
        for cell in drawing["cells"]:
            placed = layout(Cell(**cell))
            for route, (source, target) in zip(placed.routes, cell["edges"], strict=True):
                assert (route[0], route[-1]) == (placed.places[source], placed.places[target])
                assert [x for x, _ in route] == [route[0][0] + i for i in range(len(route))]
                for x, y in route[1:-1]:
                    assert all(abs(y - other) >= 30 for column, other in placed.places if column == x)


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ({"nodes": [{"text": "a"}], "edges": [[0, 1]]}, "edge from node 0 to 1"),
        ({"nodes": [{"text": "a"}, {"text": "b"}], "edges": [[1, 0]]}, "edge from node 1 to 0"),
        ({"nodes": [{"slot": 3, "operation": 9}], "edges": []}, "slot 3 has operation 9, must be at most 7"),
        ({"nodes": [{"operation": 9}], "edges": []}, r"cells\.0\.nodes\.0\.Slot\.slot: Field required"),
    ],
)
def test_a_bad_cell_is_named(cell: dict[str, Any], words: str):
    drawing = CELLS["nasnet"][0] | {"cells": [{"name": "normal", **cell}]}
    with pytest.raises(UserError, match=words):
        draw_architecture(drawing)


def test_macro_is_drawn_as_a_sequence():
    assert {"MB6_K5", "7"} <= set(texts(draw_architecture(MACRO.drawing(torch.arange(8) % 3))))


def _same(face: Any, colour: str) -> bool:
    return "#" + "".join(f"{round(255 * c):02x}" for c in face[:3]) == colour
