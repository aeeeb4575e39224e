"""The drawn architecture: every slot, layer and shape is there, inside the page; bad drawings are named."""

from typing import Any

import pytest
from matplotlib.figure import Figure

from vaenas.errors import UserError
from vaenas.report import draw_architecture
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
    for patch in figure.axes[0].patches:
        x, y, w, h = patch.get_bbox().bounds  # type: ignore[attr-defined]
        assert 0 <= x < x + w <= width
        assert 0 <= y < y + h <= figure.get_figheight() * 72


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"title": 3}, "'title' is 3, must be text"),
        ({"groups": [{"name": "a", "output": "b"}]}, "'groups'"),
        ({"groups": [{"name": "a", "output": "b", "slots": [{"slot": 7, "operation": 4}]}]}, "slot 7 has operation 4"),
    ],
)
def test_bad_drawing_is_named(change: dict[str, Any], words: str):
    with pytest.raises(UserError, match=words):
        draw_architecture(make_drawing([0] * SLOTS) | change)


def _same(face: Any, colour: str) -> bool:
    return "#" + "".join(f"{round(255 * c):02x}" for c in face[:3]) == colour
