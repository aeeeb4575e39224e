"""The NASNet-like space (App. A.4): a normal and a reduction cell of 14 edges, each one of 8 operations: 8^28."""

import ast
from dataclasses import dataclass
from reprlib import repr as short
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Generator, Tensor

from vaenas.errors import UserError
from vaenas.spaces.space import Population, SearchSpace, gumbel, until_valid

OPERATIONS = (
    "none", "avg_pool_3x3", "max_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "sep_conv_7x7",
    "dil_conv_3x3",
)  # fmt: skip
SYMBOLS = "nams357d"
NONE = 0

KINDS = ("normal", "reduction")
FIELDS = ("normal", "reduce")  # what DARTS's genotypes call them
INPUTS, NODES = 2, 4
# (source, target) of each edge, target by target: 0 and 1 are the outputs of the cells before, c_{k-2} and c_{k-1}, and
# 2 to 5 the nodes.
EDGES = tuple((source, target) for target in range(INPUTS, INPUTS + NODES) for source in range(target))
SLOTS = len(KINDS) * len(EDGES)
TRIES = 100  # rounds of draws for unreached nodes before they get an edge in another way


@dataclass(frozen=True)
class NASNetSpace(SearchSpace):
    """28 slots: the edges of the normal cell in the order of `EDGES`, then those of the reduction cell.

    Valid is an architecture in which every node of both cells has an edge into it with an operation other than "none".
    A node without one would fill a quarter of the cell's output with zeros, which every cell above pays for. Sources
    come before their targets, so every node is then reached from an input. A cell may ignore one input, as DARTS's may.

    The text code writes the edges into each node of the normal, then of the reduction cell:
    "33-33n-3snn-s7nnn-mm-nns-mnsn-nmsd5".
    """

    name: str = "nasnet"
    operations: tuple[str, ...] = (SYMBOLS,) * SLOTS
    groups: tuple[int, ...] = (2, 3, 4, 5) * len(KINDS)

    has_genotype: ClassVar[bool] = True

    def is_valid(self, population: Population) -> Bool[Tensor, "n"]:
        """Which rows have an edge into every node."""
        in_range = super().is_valid(population)
        if not in_range.any():
            return in_range
        return in_range & self._reached(population).all(-1)

    def draw(self, logits: Float[Tensor, "n 28 8"], rng: Generator) -> Population:
        """One architecture per row of logits, from their softmax given that the row is valid; zeros are uniform.

        Unreached nodes are drawn anew, which gives just that distribution since nodes are independent. Where one is
        still unreached after 100 rounds (its logits leave next to no mass on an edge) it gets a single edge, from the
        limit of the distribution as that mass goes to zero.
        """
        drawn, lengths = super().draw(logits, rng), torch.tensor(self.groups)
        for _ in range(TRIES):
            rest = (~self.is_valid(drawn)).nonzero()[:, 0]
            if not len(rest):
                return drawn
            unreached = ~self._reached(drawn[rest]).repeat_interleave(lengths, dim=1)  # (n, 28)
            drawn[rest] = torch.where(unreached, super().draw(logits[rest], rng), drawn[rest])
        return self._with_edges(drawn, logits, rng)

    def mutate(self, population: Population, prob: float, rng: Generator) -> Population:
        """Each slot is drawn anew with probability `prob`; repeated until valid, after 100 rounds the row stays."""
        mutate = super().mutate
        return until_valid(lambda rows: mutate(population[rows], prob, rng), self.is_valid, population)

    def crossover(self, mothers: Population, fathers: Population, rng: Generator) -> Population:
        """Each slot from either parent, probability one half; repeated until valid, after 100 rounds the mother."""
        crossover = super().crossover
        return until_valid(lambda rows: crossover(mothers[rows], fathers[rows], rng), self.is_valid, mothers)

    def features(self, population: Population) -> list[Float[Tensor, "n _"]]:
        """The normal cell's operations, the reduction cell's, and how often each cell has each operation.

        The divisors are the roots of each group's summed variance over independent uniform slots: one scale for all.
        """
        cells = torch.nn.functional.one_hot(population.unflatten(1, (2, -1)), len(OPERATIONS)).float()  # (n, 2, 14, 8)
        slots = cells.flatten(2) / 3.5  # 14 slots x 7/8
        return [slots[:, 0], slots[:, 1], cells.sum(2).flatten(1) / 24.5**0.5]

    def genotype(self, architecture: Int64[Tensor, "28"]) -> str | None:
        """The architecture in DARTS's form; None unless each node has exactly two edges, as there."""
        pairs: dict[str, list[tuple[str, int]]] = {field: [] for field in FIELDS}
        for place, into in enumerate(architecture.split(self.groups)):
            edges = [(OPERATIONS[o], source) for source, o in enumerate(into.tolist()) if o != NONE]
            if len(edges) != 2:
                return None
            pairs[FIELDS[place // NODES]] += edges
        concat = range(INPUTS, INPUTS + NODES)
        return f"Genotype({', '.join(f'{field}={edges!r}, {field}_concat={concat}' for field, edges in pairs.items())})"

    def from_genotype(self, text: str) -> Int64[Tensor, "28"]:
        """The architecture of a genotype, which is parsed and never executed; `UserError` names what is wrong.

        Args:
            text: "Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), reduce=[...],
                reduce_concat=range(2, 6))" with two (operation, source) pairs for each node; concat may be a list.
        """
        values, architecture = _parse(text), torch.full((SLOTS,), NONE)
        nodes, known = range(INPUTS, INPUTS + NODES), OPERATIONS[NONE + 1 :]
        for cell, field in enumerate(FIELDS):
            concat, pairs, at = values[f"{field}_concat"], values[field], f"genotype: {field}"
            if concat not in (nodes, list(nodes), tuple(nodes)):
                raise UserError(f"{at}_concat is {short(concat)}; this space has {list(nodes)}")
            if not isinstance(pairs, list | tuple) or len(pairs) != 2 * NODES:
                found = f"{len(pairs)} entries" if isinstance(pairs, list | tuple) else short(pairs)
                raise UserError(f"{at} has {found}; must be {2 * NODES} pairs, two for each of {NODES} nodes")
            for place, pair in enumerate(pairs):
                node, to = nodes[place // 2], f"genotype: node {nodes[place // 2]} of {field}"
                if not (isinstance(pair, list | tuple) and len(pair) == 2):
                    raise UserError(f"{at} holds {short(pair)}; must be pairs of an operation and a source")
                name, source = pair
                if name not in known:
                    raise UserError(f"{at} has unknown operation {short(name)}; known are {', '.join(known)}")
                if type(source) is not int or not 0 <= source < node:
                    raise UserError(f"{to} has source {short(source)}; must be 0 to {node - 1}")
                slot = len(EDGES) * cell + EDGES.index((source, node))
                if architecture[slot] != NONE:
                    raise UserError(f"{to} has two edges from {source}; this space has one operation for each edge")
                architecture[slot] = OPERATIONS.index(name)
        return architecture

    def facts(self, architecture: Int64[Tensor, "28"]) -> dict[str, str | None]:
        """The genotype, where the architecture has one."""
        return {**super().facts(architecture), "genotype": self.genotype(architecture)}

    def _reached(self, population: Population) -> Bool[Tensor, "n 8"]:
        """Which of the 2 x 4 nodes have an edge into them."""
        return torch.stack([edges.any(-1) for edges in (population != NONE).split(self.groups, dim=1)], dim=1)

    def _with_edges(self, population: Population, logits: Float[Tensor, "n 28 8"], rng: Generator) -> Population:
        """One edge for each unreached node, drawn from the odds of its operations against "none"."""
        repaired, offered = population.clone(), len(OPERATIONS) - 1
        odds = (logits - logits[:, :, NONE, None] + gumbel(logits.shape, rng))[:, :, NONE + 1 :]
        nodes = (x.split(self.groups, dim=1) for x in (repaired, odds))
        for into, of_node, reached in zip(*nodes, self._reached(population).T, strict=True):
            best = of_node[~reached].flatten(1).argmax(-1)
            into[~reached, best // offered] = NONE + 1 + best % offered
        return repaired


def _parse(text: str) -> dict[str, Any]:
    """The four arguments of a genotype."""
    names = [name for field in FIELDS for name in (field, f"{field}_concat")]
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Genotype"):
            raise ValueError("it is no Genotype(...)")
        if call.args or sorted(str(k.arg) for k in call.keywords) != sorted(names):
            raise ValueError(f"its arguments must be {', '.join(names)}, each once and by name")
        return {str(k.arg): _value(k.value) for k in call.keywords}
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        form = ", ".join(f"{name}=..." for name in names)
        raise UserError(f"genotype {short(text)} cannot be read ({reason}); it must be Genotype({form})") from None


def _value(node: ast.expr) -> Any:
    try:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
            return range(*map(ast.literal_eval, node.args))
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        raise ValueError(f"{short(ast.unparse(node))} is no plain value") from None
