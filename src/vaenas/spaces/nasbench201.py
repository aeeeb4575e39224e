"""NAS-Bench-201 (Dong & Yang 2020): a cell of 4 nodes and 6 edges, each one of five operations: 15,625 cells."""

import re
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vaenas.errors import UserError
from vaenas.spaces.geometry import check_channels, check_images
from vaenas.spaces.space import Population, SearchSpace

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
SYMBOLS = "ns13p"
NONE = 0
STAGES = 3
BENCHMARK_WIDTH = "16 = the benchmark's"

SOURCES = (0, 0, 1, 0, 1, 2)  # of the edges into node 1, node 2 (two) and node 3 (three)
TARGETS = (1, 2, 2, 3, 3, 3)
_EDGES = [rf"(\w+)~{source}" for source in SOURCES]
_CELL = re.compile(
    "".join([rf"\|{_EDGES[0]}\|", rf"\+\|{_EDGES[1]}\|{_EDGES[2]}\|", rf"\+\|{_EDGES[3]}\|{_EDGES[4]}\|{_EDGES[5]}\|"])
)
_INDEX = {name: i for i, name in enumerate(OPERATIONS)}


@dataclass(frozen=True)
class NASBench201Space(SearchSpace):
    """Slots in the order of the edges in the benchmark's cell strings, codes like "3-3p-s31" or these strings."""

    name: str = "nasbench201"
    operations: tuple[str, ...] = (SYMBOLS,) * 6
    groups: tuple[int, ...] = (1, 2, 3)

    def own_text(self, architecture: Int64[Tensor, "6"]) -> str:
        """The benchmark's cell string."""
        return cell_strings(architecture[None])[0]

    def decode(self, codes: list[str]) -> Population:
        """Codes or cell strings to integers; raises `UserError` that names the text and what is wrong with it."""
        rows = [
            parse([code]) if code.startswith("|") else super(NASBench201Space, self).decode([code]) for code in codes
        ]
        return torch.cat(rows) if rows else super().decode(codes)

    def features(self, population: Population) -> list[Float[Tensor, "n _"]]:
        """Each edge's operation after `prune`, and how often each operation is there: what counts wherever it is."""
        pruned = prune(population)
        edges = super().features(pruned)
        # half: one edge with another operation moves two counts by 1, and is about as far as a slot's difference
        return [*edges, 0.5 * torch.nn.functional.one_hot(pruned, len(OPERATIONS)).float().sum(1)]


def nasbench201_space() -> NASBench201Space:
    """The search space."""
    return NASBench201Space()


@dataclass(frozen=True)
class NASBench201Geometry:
    """Everything about the network but the choice of operations.

    Args:
        image_size: side of the square input in pixels, >= 16; 32 is the benchmark's.
        image_channels: 1 or 3.
        classes: number of classes, >= 2.
        width: channels of the first stage, doubled in the second and third; 16 is the benchmark's.
        layers: cells in each of the three stages; 5 is the benchmark's.
    """

    image_size: int = 32
    image_channels: int = 3
    classes: int = 10
    width: int = 16
    layers: int = 5

    def __post_init__(self) -> None:
        check_channels("nasbench201", self.width, BENCHMARK_WIDTH)
        check_images("nasbench201", self.image_size, self.image_channels, self.classes)

    @property
    def cells(self) -> int:
        """In all stages together."""
        return STAGES * self.layers

    @property
    def layer_slots(self) -> list[int]:
        """The slot of each edge of the network, cell by cell: all cells share their slots."""
        return list(range(len(SOURCES))) * self.cells


def drawing(geometry: NASBench201Geometry, architecture: Int64[Tensor, "6"]) -> dict[str, Any]:
    """What a picture of a cell needs: four nodes and the operations on their edges, those that count (`prune`)."""
    nodes: list[dict[str, Any]] = [{"text": "input"}]
    edges, places = [], [0]
    kept = prune(architecture[None])[0].tolist()
    for node in (1, 2, 3):
        slots = [slot for slot, target in enumerate(TARGETS) if target == node and kept[slot]]
        for slot in slots:
            edges.append([places[SOURCES[slot]], len(nodes)])
            nodes.append({"slot": slot, "operation": kept[slot]})
        places.append(len(nodes))
        edges += [[len(nodes) - 1 - i, len(nodes)] for i in range(len(slots))]
        nodes.append({"text": "output" if node == 3 else str(node)})
    return {
        "title": f"NAS-Bench-201 cell, {geometry.layers} in each stage, {geometry.width} channels",
        "cells": [{"name": "cell", "nodes": nodes, "edges": edges}],
        "operations": [{"symbol": s, "name": name} for s, name in zip(SYMBOLS, OPERATIONS, strict=True)],
    }


def prune(population: Int64[Tensor, "n 6"]) -> Int64[Tensor, "n 6"]:
    """The same networks with "none" on every edge that lies on no path from the cell's input to its output."""
    present = (population != NONE).T
    reached, reaching = torch.zeros(2, 4, len(population), dtype=torch.bool)
    reached[0] = reaching[3] = True
    edges = list(enumerate(zip(SOURCES, TARGETS, strict=True)))
    for edge, (source, target) in edges:  # by target, so the source is known
        reached[target] |= reached[source] & present[edge]
    for edge, (source, target) in reversed(edges):
        reaching[source] |= reaching[target] & present[edge]
    on_path = torch.stack([reached[source] & reaching[target] for _, (source, target) in edges], dim=1)
    return population * on_path


def parse(cells: list[str]) -> Int64[Tensor, "n 6"]:
    """The benchmark's cell strings to architectures, the inverse of `cell_strings`.

    Raises:
        UserError: names the string and what is wrong with it.

    Example:
        >>> parse(["|none~0|+|none~0|none~1|+|none~0|none~1|avg_pool_3x3~2|"]).tolist()
        [[0, 0, 0, 0, 0, 4]]
    """
    rows = []
    for cell in cells:
        match = _CELL.fullmatch(cell)
        if match is None:
            raise UserError(f"cell {cell!r}: NAS-Bench-201 writes |op~0|+|op~0|op~1|+|op~0|op~1|op~2|")
        unknown = [name for name in match.groups() if name not in _INDEX]
        if unknown:
            raise UserError(f"cell {cell!r}: unknown operation {unknown[0]!r}; known are {', '.join(OPERATIONS)}")
        rows.append([_INDEX[name] for name in match.groups()])
    return torch.tensor(rows, dtype=torch.int64).reshape(len(cells), len(SOURCES))


def cell_strings(population: Int64[Tensor, "n 6"]) -> list[str]:
    """Architectures to the benchmark's cell strings."""
    strings = []
    for row in population.tolist():
        a, b, c, d, e, f = (f"{OPERATIONS[op]}~{source}" for op, source in zip(row, SOURCES, strict=True))
        strings.append(f"|{a}|+|{b}|{c}|+|{d}|{e}|{f}|")
    return strings
