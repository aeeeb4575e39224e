"""General cells of NAS-Bench-101 (Ying et al. 2019): at most 7 vertices and 9 edges, as rows of 26 integers.

Entries 0-20 are the edges of an upper triangular adjacency matrix: entry x + y(y-1)/2 is 1 for an edge x -> y. Entries
21-25 are the operations of the inner vertices 1-5, an index into `OPERATIONS`. Vertex 0 is the input and vertex 6 the
output of a smaller cell too: its unused inner vertices have no edges. Every function takes n cells at once.
"""

import hashlib
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from vaenas.errors import UserError

VERTICES, EDGES, MAX_EDGES = 7, 21, 9
OPERATIONS = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")

Cells = Int64[Tensor, "n 26"]
"""n cells: 21 edges (0 or 1) and 5 operations (0, 1 or 2)."""

PAIRS = [(source, target) for target in range(VERTICES) for source in range(target)]  # of each edge
_INTO = tuple(slice(y * (y - 1) // 2, y * (y + 1) // 2) for y in range(VERTICES))  # the edges into vertex y
_SOURCE, _TARGET = torch.tensor(PAIRS).T
_CHUNK = 8192  # cells whose intermediate values stay in the cache

LONGEST = 3  # operations on the paths that features count: 1 + 3 + 9 + 27 kinds
FAR = 9.0  # further than any path
# The root of each group's summed variance over uniform 7-vertex cells, measured once: it brings them to one scale.
SCALES = {"paths": 1.16, "edges": 2.97, "shape": 2.32}


def edge(source: int, target: int) -> int:
    """The entry of the edge source -> target, source < target."""
    return source + target * (target - 1) // 2


def adjacency(cells: Cells) -> Int64[Tensor, "n 7 7"]:
    """Entry [x, y] is 1 for an edge x -> y."""
    matrices = torch.zeros(len(cells), VERTICES, VERTICES, dtype=torch.int64)
    matrices[:, _SOURCE, _TARGET] = cells[:, :EDGES]
    return matrices


def embed(vertices: Int64[Tensor, "n"], edge_bits: Int64[Tensor, "n"], operations: list[str]) -> Cells:
    """Cells of 2 to 7 vertices in the layout of 7; raises `UserError` for the first that is none.

    Args:
        vertices: v, in [2, 7]; vertex v-1 is the output.
        edge_bits: bit x + y(y-1)/2 stands for the edge x -> y, where 0 <= x < y < v.
        operations: one character "0", "1" or "2" for each of the v-2 inner vertices.
    """
    inside = (vertices >= 2) & (vertices <= VERTICES)
    _require(inside, lambda i: f"{int(vertices[i])} vertices; NAS-Bench-101 has 2 to {VERTICES}")
    low = (vertices - 1) * (vertices - 2) // 2  # edges among all vertices but the output
    fits = (edge_bits >= 0) & (edge_bits >> (low + vertices - 1) == 0)
    _require(fits, lambda i: f"edge bits {int(edge_bits[i])} do not fit {int(vertices[i])} vertices")
    lengths = torch.tensor([len(text) for text in operations], dtype=torch.int64)
    _require(
        lengths == vertices - 2,
        lambda i: f"operations {operations[i]!r}: {int(vertices[i])} vertices have {int(vertices[i]) - 2} operations",
    )
    letters = np.frombuffer("".join(text.ljust(5, "0") for text in operations).encode("utf-32-le"), dtype="<u4")
    indices = torch.from_numpy(letters.astype(np.int64)).reshape(-1, 5) - ord("0")
    known = ((indices >= 0) & (indices < len(OPERATIONS))).all(-1)
    _require(known, lambda i: f"operations {operations[i]!r}: unknown operation; known are 0, 1 and 2")
    bits = (edge_bits & ((1 << low) - 1)) | (edge_bits >> low << _INTO[-1].start)
    return torch.cat([bits[:, None] >> torch.arange(EDGES) & 1, indices], dim=1)


def from_matrices(matrices: Int64[Tensor, "n v v"], operations: list[list[str]]) -> Cells:
    """Cells as the NAS-Bench-101 API writes them; `UserError` names the first that breaks a rule, and the rule.

    Args:
        matrices: adjacency matrices, entry [x, y] is 1 for an edge x -> y; strictly upper triangular.
        operations: v names each, "input", v-2 of `OPERATIONS`, "output".
    """
    n, v = len(matrices), matrices.shape[1]
    if not 2 <= v <= VERTICES:
        raise UserError(f"cell 0: {v} vertices; NAS-Bench-101 has 2 to {VERTICES}")
    _require(((matrices == 0) | (matrices == 1)).all(-1).all(-1), lambda i: "entries of the matrix must be 0 or 1")
    upper = (matrices.tril() == 0).all(-1).all(-1)
    _require(upper, lambda i: "the matrix must be strictly upper triangular: edges go from lower to higher vertices")
    for i, names in enumerate(operations):
        if len(names) != v or names[0] != "input" or names[-1] != "output":
            raise UserError(f"cell {i}: {v} vertices need {v} operations, first 'input', last 'output'; it has {names}")
        if unknown := [name for name in names[1:-1] if name not in OPERATIONS]:
            raise UserError(f"cell {i}: unknown operation {unknown[0]!r}; known are {', '.join(OPERATIONS)}")
    within = v * (v - 1) // 2
    bits = (matrices[:, _SOURCE[:within], _TARGET[:within]] << torch.arange(within)).sum(-1)
    digits = ["".join(str(OPERATIONS.index(name)) for name in names[1:-1]) for names in operations]
    cells = embed(torch.full((n,), v), bits, digits)
    check(cells)
    return cells


def check(cells: Cells) -> None:
    """Raises `UserError` for the first cell that NAS-Bench-101 does not have, and names the rule that it breaks.

    Entries are known to be on offer. As in the benchmark's own check, edges are counted after pruning.
    """
    _require(connected(cells), lambda i: "no path of edges leads from input to output; add one")
    n = prune(cells)[:, :EDGES].sum(-1)
    _require(n <= MAX_EDGES, lambda i: f"{int(n[i])} edges; NAS-Bench-101 has at most {MAX_EDGES}: take some out")


def _require(holds: Bool[Tensor, "n"], message: Callable[[int], str]) -> None:
    """Raises `UserError` for the first row that does not hold."""
    if not holds.all():
        i = int((~holds).int().argmax())
        raise UserError(f"cell {i}: {message(i)}")


def alive(cells: Cells) -> Bool[Tensor, "n 7"]:
    """Which vertices lie on a path from input to output; none of them where there is no such path."""
    edges = (cells[:, :EDGES] == 1).t().contiguous()
    after_input, before_output = torch.zeros(2, VERTICES, len(cells), dtype=torch.bool)
    after_input[0] = before_output[-1] = True
    for y in range(1, VERTICES):
        after_input[y] = (edges[_INTO[y]] & after_input[:y]).any(0)
    for y in reversed(range(1, VERTICES)):
        before_output[:y] |= edges[_INTO[y]] & before_output[y]
    return (after_input & before_output).t()


def connected(cells: Cells) -> Bool[Tensor, "n"]:
    """Whether a path leads from input to output."""
    return alive(cells)[:, 0]


def is_full(cells: Cells) -> Bool[Tensor, "n"]:
    """Whether pruning keeps all 7 vertices."""
    return alive(cells).all(-1)


def prune(cells: Cells) -> Cells:
    """Without the dangling vertices: they lose their edges, and their operation becomes 0."""
    living = alive(cells)
    edges = cells[:, :EDGES] * (living[:, _SOURCE] & living[:, _TARGET])
    return torch.cat([edges, cells[:, EDGES:] * living[:, 1:-1]], dim=1)


def canonical_key(cells: Cells) -> Int64[Tensor, "n"]:
    """A number that two cells share exactly if they are isomorphic once pruned; 0 where input and output are apart.

    Each vertex's number is a hash of its operation and of the multiset of its predecessors' numbers; then, from output
    to input, of that and its successors' numbers. The key is the sum over the vertices. All 423,624 cells of
    NAS-Bench-101 have different keys (a test goes through them); a cell with more than 9 edges shares its key with one
    of them with probability 2e-14.
    """
    return torch.cat([_key(part) for part in cells.split(_CHUNK)]) if len(cells) else cells.new_zeros(0)


def _key(cells: Cells) -> Int64[Tensor, "n"]:
    columns = cells.t().contiguous()
    living = -alive(cells).t().long()  # all bits set, or none
    edges = -columns[:EDGES]
    labels = torch.tensor([1, 0, 0, 0, 0, 0, 2])[:, None].repeat(1, len(cells))
    labels[1:-1] = columns[EDGES:] + 3
    numbers = torch.zeros_like(labels)
    for y in range(VERTICES):
        numbers[y] = _mix(labels[y] + (edges[_INTO[y]] & numbers[:y]).sum(0)) & living[y]
    for y in reversed(range(VERTICES)):
        numbers[y] = _mix(numbers[y]) & living[y]
        numbers[:y] += edges[_INTO[y]] & numbers[y]
    return numbers.sum(0)


def _mix(z: Int64[Tensor, "n"]) -> Int64[Tensor, "n"]:
    """The finaliser of SplitMix64 (Steele et al. 2014): one-to-one, every bit depends on every bit."""
    # >> keeps the sign, the generator's shift does not: the mask takes the copies of the sign away
    z = z + (0x9E3779B97F4A7C15 - 2**64)
    z = (z ^ ((z >> 30) & (2**34 - 1))) * (0xBF58476D1CE4E5B9 - 2**64)
    z = (z ^ ((z >> 27) & (2**37 - 1))) * (0x94D049BB133111EB - 2**64)
    return z ^ ((z >> 31) & (2**33 - 1))


def module_hash(cells: Cells) -> list[str]:
    """The benchmark's own hash of each pruned cell: 32 hexadecimal digits, equal for isomorphic cells.

    The iterated hash of Ying et al. 2019: a vertex starts with the md5 of "(out-degree, in-degree, label)", where the
    label is -1 for the input, -2 for the output, else the operation. Then, as often as there are vertices, it becomes
    the md5 of predecessors' | successors' | own hash, neighbours sorted. The cell's is the md5 of the sorted list.
    Some 0.15 ms a cell; `UserError` names the first whose input and output are not connected.
    """
    _require(connected(cells), lambda i: "no path of edges leads from input to output; add one")
    vertices = [living.nonzero()[:, 0].tolist() for living in alive(cells)]
    return [_hash(cell, kept) for cell, kept in zip(cells.tolist(), vertices, strict=True)]


def _hash(cell: list[int], vertices: list[int]) -> str:
    """Of one cell and those of its vertices that pruning keeps."""
    labels = {0: -1, VERTICES - 1: -2} | {v: cell[EDGES + v - 1] for v in range(1, VERTICES - 1)}
    before = {v: [u for u in vertices if u < v and cell[edge(u, v)]] for v in vertices}
    after = {v: [w for w in vertices if w > v and cell[edge(v, w)]] for v in vertices}
    hashes = {v: _md5(str((len(after[v]), len(before[v]), labels[v]))) for v in vertices}
    for _ in vertices:
        neighbours = {v: ["".join(sorted(hashes[u] for u in near[v])) for near in (before, after)] for v in vertices}
        hashes = {v: _md5("|".join([*neighbours[v], hashes[v]])) for v in vertices}
    return _md5(str(sorted(hashes.values())))


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def features(cells: Cells) -> list[Float[Tensor, "n _"]]:
    """Three groups, all of the pruned cell: they stay the same when inner vertices are renumbered.

    Paths from input to output by the operations on them (log of 1 + count; White et al. 2019 encode cells so), edges by
    the operations at their ends (one step of Weisfeiler and Lehman), and the shape: longest and shortest path, degrees
    of input and output, the direct edge, the most operations of each kind on one path.
    """
    pruned = prune(cells)
    edges = adjacency(pruned).float()
    inner = torch.nn.functional.one_hot(pruned[:, EDGES:], len(OPERATIONS)).float()
    inner = inner * edges.any(1)[:, 1:-1, None]  # pruned vertices have no edges and no label
    labels = torch.zeros(len(cells), VERTICES, len(OPERATIONS) + 2)
    labels[:, 0, -2] = labels[:, -1, -1] = 1
    labels[:, 1:-1, : len(OPERATIONS)] = inner
    kinds = torch.einsum("nxa,nxy,nyb->nab", labels, edges, labels).flatten(1)
    groups = {"paths": _paths(edges, inner).log1p(), "edges": kinds, "shape": _shape(edges, labels)}
    return [values / SCALES[name] for name, values in groups.items()]


def _paths(edges: Float[Tensor, "n 7 7"], inner: Float[Tensor, "n 5 3"]) -> Float[Tensor, "n p"]:
    """Numbers of paths from input to output, one column per sequence of at most `LONGEST` operations."""
    reached = edges[:, :1, :]  # (n, sequences, 7): paths from the input that end in each vertex
    counts = [reached[:, :, -1]]
    for _ in range(LONGEST):
        through = torch.einsum("nsv,nvo->nsov", reached[:, :, 1:-1], inner)  # (n, s, 3, 5)
        reached = torch.einsum("nsov,nvw->nsow", through, edges[:, 1:-1]).flatten(1, 2)
        counts.append(reached[:, :, -1])
    return torch.cat(counts, dim=1)


def _shape(edges: Float[Tensor, "n 7 7"], labels: Float[Tensor, "n 7 5"]) -> Float[Tensor, "n 8"]:
    n = len(edges)
    longest, shortest, most = torch.zeros(n, 7), torch.full((n, 7), FAR), torch.full((n, 7, 3), -FAR)
    shortest[:, 0], most[:, 0] = 0, 0
    for y in range(1, VERTICES):
        into = edges[:, :, y] > 0
        longest[:, y] = (into * (longest + 1)).amax(1)
        shortest[:, y] = torch.where(into, shortest + 1, FAR).amin(1)
        most[:, y] = torch.where(into[:, :, None], most, -FAR).amax(1) + labels[:, y, :3]
    ends = [longest[:, -1], shortest[:, -1], edges[:, :, -1].sum(1), edges[:, 0].sum(1), edges[:, 0, -1]]
    return torch.cat([torch.stack(ends, dim=1), most[:, -1]], dim=1)
