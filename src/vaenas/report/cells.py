"""Places the boxes of a cell from left to right, as graphviz's dot does: layers by depth, few crossings."""

import itertools
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from statistics import mean

import networkx

from vaenas.drawings import Cell, Layer, Slot

ROW = 36.0  # points between the middles of two boxes of a column
THIN = 14.0  # likewise, where one of the two is no box but a line that passes
SWEEPS = 12  # of the ordering; the crossings change no more after some


@dataclass(frozen=True)
class Layout:
    """Where everything of a cell stands: x in columns from 0, y in points downwards from 0."""

    name: str
    nodes: list[Slot | Layer]
    places: list[tuple[float, float]]  # of the nodes
    routes: list[list[tuple[float, float]]]  # of the edges, from node to node through the columns between
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
    columns = max(column.values(), default=-1) + 1
    layers = [[point for point in column if column[point] == x] for x in range(columns)]
    neighbours: dict[Hashable, tuple[list[Hashable], list[Hashable]]] = {point: ([], []) for point in column}
    for route in routes:
        for a, b in itertools.pairwise(route):
            neighbours[a][1].append(b)
            neighbours[b][0].append(a)

    for sweep in range(SWEEPS):
        side = sweep % 2  # from the left by what comes before, then from the right by what follows
        rank = {point: i - (len(layer) - 1) / 2 for layer in layers for i, point in enumerate(layer)}
        for layer in layers if side == 0 else reversed(layers):
            layer.sort(key=lambda point: _mean((rank[p] for p in neighbours[point][side]), rank[point]))
            rank |= {point: i - (len(layer) - 1) / 2 for i, point in enumerate(layer)}

    y: dict[Hashable, float] = {}
    for layer in layers:
        heights = [0.0]
        for above, below in itertools.pairwise(layer):
            heights.append(heights[-1] + (THIN if isinstance(above, tuple) and isinstance(below, tuple) else ROW))
        y |= {point: height - heights[-1] / 2 for point, height in zip(layer, heights, strict=True)}
    top, bottom = min(y.values(), default=0.0) - ROW / 2, max(y.values(), default=0.0) + ROW / 2

    def place(point: Hashable) -> tuple[float, float]:
        return float(column[point]), y[point] - top

    return Layout(
        cell.name, cell.nodes, [place(node) for node in range(len(cell.nodes))],
        [[place(point) for point in route] for route in routes], columns, bottom - top,
    )  # fmt: skip


def _mean(values: Iterable[float], otherwise: float) -> float:
    known = list(values)
    return mean(known) if known else otherwise
