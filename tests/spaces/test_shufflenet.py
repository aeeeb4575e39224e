"""The ShuffleNet-like space is the paper's."""

import ast
import dataclasses
import itertools
from pathlib import Path

import pytest
import torch

import vaenas.spaces
from vaenas.errors import UserError
from vaenas.networks import NetworkConfig
from vaenas.networks.shufflenet import ShuffleNetImageSpace, channels_of
from vaenas.spaces.shufflenet import OPERATIONS, shufflenet_space

PAPER = NetworkConfig(224, 3, 1000, 1.0, 20)


def test_twenty_layers_of_four_in_stages_of_4_4_8_4() -> None:
    space = shufflenet_space()
    assert space.choices == (4,) * 20
    assert space.groups == (4, 4, 8, 4)
    assert space.encode(torch.tensor([[0, 1, 2, 3] * 5])) == ["357x-357x-357x357x-357x"]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"layers": 12}, "layers 12: .*multiples of 5"),
        ({"layers": 0}, "layers 0"),
        ({"width": 0.1}, r"width 0.1: .*>= 0.125"),
        ({"image_size": 8}, "image size 8: .* 16 pixels or more"),
    ],
)
def test_an_impossible_network_is_named_with_value_and_limit(bad: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        ShuffleNetImageSpace(dataclasses.replace(PAPER, **bad))


@pytest.mark.parametrize("width", [0.125, 0.13, 0.25, 0.3, 0.5, 0.77, 1.0, 2.5])
def test_channels_grow_from_stage_to_stage_at_every_width(width: float) -> None:
    channels = [channels_of(c, width) for c in (16, 64, 160, 320, 640, 1024)]
    assert all(a < b for a, b in itertools.pairwise(channels))
    assert all(c % 8 == 0 for c in channels)
    if width == 1.0:
        assert channels == [16, 64, 160, 320, 640, 1024]


def test_drawing_shows_each_slot_once_with_the_shapes_of_the_network() -> None:
    architecture = torch.arange(20) % 4
    picture = ShuffleNetImageSpace(NetworkConfig(32, 3, 10, 0.5, 20)).drawing(architecture)
    slots = [slot for group in picture["groups"] for slot in group["slots"]]
    assert [slot["slot"] for slot in slots] == list(range(20))
    assert [slot["operation"] for slot in slots] == architecture.tolist()
    assert [group["output"] for group in picture["groups"]] == [
        "32 × 16 × 16", "80 × 8 × 8", "160 × 4 × 4", "320 × 2 × 2",
    ]  # fmt: skip
    assert [o["name"] for o in picture["operations"]] == list(OPERATIONS)


def test_spaces_import_no_layers_of_networks() -> None:
    for file in Path(vaenas.spaces.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.module is not None
                assert not node.module.startswith("torch.nn"), file
                assert not (node.module == "torch" and any(a.name == "nn" for a in node.names)), file
            if isinstance(node, ast.Import):
                assert all(not a.name.startswith("torch.nn") for a in node.names), file
