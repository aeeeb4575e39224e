"""What a predictor sees of NAS-Bench-101 cells: numbers that do not change when inner vertices are renumbered."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vaenas.spaces.cells import EDGES, OPERATIONS, VERTICES, Cells, prune

LONGEST = 3  # operations on the paths that are counted: 1 + 3 + 9 + 27 kinds
FAR = 9.0  # further than any path
# The root of each group's summed variance over uniform 7-vertex cells, measured once: it brings them to one scale.
SCALES = {"paths": 1.16, "edges": 2.97, "shape": 2.32}


def cell_features(cells: Cells) -> list[Float[Tensor, "n _"]]:
    """Three groups, all of the pruned cell.

    Paths from input to output by the operations on them (log of 1 + count; White et al. 2019 encode cells so), edges by
    the operations at their ends (one step of Weisfeiler and Lehman), and the shape: longest and shortest path, degrees
    of input and output, the direct edge, the most operations of each kind on one path.
    """
    pruned = prune(cells)
    adjacency = _adjacency(pruned[:, :EDGES])  # (n, 7, 7)
    inner = torch.nn.functional.one_hot(pruned[:, EDGES:], len(OPERATIONS)).float()
    inner = inner * adjacency.any(1)[:, 1:-1, None]  # pruned vertices have no edges and no label
    labels = torch.zeros(len(cells), VERTICES, len(OPERATIONS) + 2)
    labels[:, 0, -2] = labels[:, -1, -1] = 1
    labels[:, 1:-1, : len(OPERATIONS)] = inner
    edges = torch.einsum("nxa,nxy,nyb->nab", labels, adjacency, labels).flatten(1)
    groups = {"paths": _paths(adjacency, inner).log1p(), "edges": edges, "shape": _shape(adjacency, labels)}
    return [values / SCALES[name] for name, values in groups.items()]


def _adjacency(edges: Int64[Tensor, "n 21"]) -> Float[Tensor, "n 7 7"]:
    target, source = torch.tril_indices(VERTICES, VERTICES, -1)  # entry x + y(y-1)/2 is x -> y
    adjacency = torch.zeros(len(edges), VERTICES, VERTICES)
    adjacency[:, source, target] = edges.float()
    return adjacency


def _paths(adjacency: Float[Tensor, "n 7 7"], inner: Float[Tensor, "n 5 3"]) -> Float[Tensor, "n p"]:
    """Numbers of paths from input to output, one column per sequence of at most `LONGEST` operations."""
    reached = adjacency[:, :1, :]  # (n, sequences, 7): paths from the input that end in each vertex
    counts = [reached[:, :, -1]]
    for _ in range(LONGEST):
        through = torch.einsum("nsv,nvo->nsov", reached[:, :, 1:-1], inner)  # (n, s, 3, 5)
        reached = torch.einsum("nsov,nvw->nsow", through, adjacency[:, 1:-1]).flatten(1, 2)
        counts.append(reached[:, :, -1])
    return torch.cat(counts, dim=1)


def _shape(adjacency: Float[Tensor, "n 7 7"], labels: Float[Tensor, "n 7 5"]) -> Float[Tensor, "n 8"]:
    n, edge = len(adjacency), adjacency > 0
    longest, shortest, most = torch.zeros(n, 7), torch.full((n, 7), FAR), torch.full((n, 7, 3), -FAR)
    shortest[:, 0], most[:, 0] = 0, 0
    for y in range(1, VERTICES):
        into = edge[:, :, y]
        longest[:, y] = (into * (longest + 1)).amax(1)
        shortest[:, y] = torch.where(into, shortest + 1, FAR).amin(1)
        best = torch.where(into[:, :, None], most, -FAR).amax(1)
        most[:, y] = best + labels[:, y, :3]
    ends = [longest[:, -1], shortest[:, -1], adjacency[:, :, -1].sum(1), adjacency[:, 0].sum(1), adjacency[:, 0, -1]]
    return torch.cat([torch.stack(ends, dim=1), most[:, -1]], dim=1)
