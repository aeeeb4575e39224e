"""What an architecture is: integers, one operation per slot, and the rules that a population keeps."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Generator, Tensor

from vaenas.errors import UserError

Population = Int64[Tensor, "n s"]
"""n architectures of s slots; entry [i, j] is the index of the operation in slot j, in [0, choices[j])."""
Scores = Float[Tensor, "n"]
"""Higher is better: accuracies in [0, 1], or what takes their place."""
IsFeasible = Callable[[Population], Bool[Tensor, "n"]]
"""Hard constraints (multiply-adds, parameters): which architectures keep them."""


@dataclass(frozen=True)
class SearchSpace:
    """The slots, the operations that each offers, and the rules (design: `SearchSpace`; paper Sec. 3.2, α = {o_i}).

    A plain sequence space: every combination is valid. A space with rules of its own overrides `draw`, `is_valid`,
    `mutate` and `crossover`; a benchmark's space also says what its own texts are.

    Args:
        name: as the user writes it (`--space`).
        operations: for each slot the one-character symbols of its operations, all different.
        groups: the lengths of the runs of slots that the text code separates by "-"; they sum to s.

    Example:
        >>> space = SearchSpace("toy", operations=("35x", "35"), groups=(1, 1))
        >>> space.encode(space.decode(["x-3"]))
        ['x-3']
    """

    name: str
    operations: tuple[str, ...]
    groups: tuple[int, ...]

    has_genotype: ClassVar[bool] = False
    """Whether DARTS's text form of two cells names architectures of this space: `from_genotype`."""
    top_slots: ClassVar[tuple[int, int]] = 0, 0
    """(e, m): of the first e slots the m with the largest numbers are 1, the others 0 (App. A.5)."""

    def __post_init__(self) -> None:
        if sum(self.groups) != len(self.operations) or min(self.groups, default=0) < 1:
            raise ValueError(f"groups {self.groups} must be positive and sum to the {len(self.operations)} slots")
        for slot, symbols in enumerate(self.operations):
            if not symbols or len(set(symbols)) != len(symbols) or "-" in symbols:
                raise ValueError(f"slot {slot}: symbols {symbols!r} must be different characters other than '-'")

    @property
    def choices(self) -> tuple[int, ...]:
        """The number of operations on offer at each slot, length s."""
        return tuple(len(symbols) for symbols in self.operations)

    @property
    def is_free(self) -> bool:
        """Whether every combination is an architecture: no rules of the space's own."""
        return type(self).is_valid is SearchSpace.is_valid

    @property
    def full_cells(self) -> "SearchSpace | None":
        """The part of the space whose architectures lose nothing by pruning; None where nothing is pruned."""
        return None

    @property
    def slots(self) -> int:
        """s, the number of slots."""
        return len(self.operations)

    @property
    def size(self) -> int:
        """The number of combinations; the architectures are no more than these."""
        return math.prod(self.choices)

    @property
    def max_choices(self) -> int:
        """k, the width of logits: the largest number of operations at any slot."""
        return max(self.choices)

    @cached_property
    def on_offer(self) -> Bool[Tensor, "s k"]:
        """True where slot j offers operation k."""
        return torch.arange(self.max_choices) < torch.tensor(self.choices)[:, None]

    def draw(self, logits: Float[Tensor, "n s k"], rng: Generator) -> Population:
        """One architecture per row of logits, by the Gumbel-max trick: exact samples of softmax(logits).

        Zero logits are exactly uniform. Operations that a slot does not offer are never drawn.
        """
        return (logits + gumbel(logits.shape, rng)).masked_fill(~self.on_offer, -torch.inf).argmax(-1)

    def uniform(self, n: int, rng: Generator) -> Population:
        """n architectures, every one equally likely."""
        return self.draw(torch.zeros(n, self.slots, self.max_choices), rng)

    def is_valid(self, population: Population) -> Bool[Tensor, "n"]:
        """Which rows are architectures of this space."""
        if population.shape[1] != self.slots:
            return torch.zeros(len(population), dtype=torch.bool)
        return ((population >= 0) & (population < torch.tensor(self.choices))).all(-1)

    def is_full(self, population: Population) -> Bool[Tensor, "n"]:
        """Which valid rows use all of their slots; in a plain space every one."""
        return torch.ones(len(population), dtype=torch.bool)

    def check_entries(self, population: Population) -> None:
        """Raises `UserError` for the first entry that the space does not offer."""
        if population.shape[1] != self.slots:
            raise UserError(f"rows of {population.shape[1]} slots; space {self.name} has {self.slots}")
        outside = (population < 0) | (population >= torch.tensor(self.choices))
        if outside.any():
            i, slot = outside.nonzero()[0].tolist()
            offered = f"space {self.name} takes 0 to {self.choices[slot] - 1} there"
            raise UserError(f"row {i} has {int(population[i, slot])} in slot {slot}; {offered}")

    def check_rules(self, population: Population) -> None:
        """Raises `UserError` for the first row that breaks a rule of the benchmark; a plain space has none."""

    def mutate(self, population: Population, prob: float, rng: Generator) -> Population:
        """Each slot is drawn anew with probability `prob` (Guo et al. 2019, Alg. 1), uniformly over its operations."""
        fresh = self.uniform(len(population), rng)
        return torch.where(torch.rand(population.shape, generator=rng) < prob, fresh, population)

    def crossover(self, mothers: Population, fathers: Population, rng: Generator) -> Population:
        """Each slot comes from either parent with probability one half; shapes (n, s) and (n, s)."""
        return torch.where(torch.rand(mothers.shape, generator=rng) < 0.5, mothers, fathers)

    def neighbours(self, architecture: Int64[Tensor, "s"]) -> Population:
        """All architectures one change away from (s,): one slot with another of its operations."""
        slot, operation = self.on_offer.nonzero().unbind(1)
        other = operation != architecture[slot]
        slot, operation = slot[other], operation[other]
        changed = architecture.repeat(len(slot), 1).scatter_(1, slot[:, None], operation[:, None])
        return changed[self.is_valid(changed)]

    def features(self, population: Population) -> list[Float[Tensor, "n _"]]:
        """What a predictor sees of n architectures: groups of numbers, each about 1 apart for what differs.

        Here one group per slot, whose squared distance is 1 for different operations.
        """
        one_hot = torch.nn.functional.one_hot(population, self.max_choices) * 0.5**0.5
        return list(one_hot.unbind(1))

    def keys(self, population: Population) -> Int64[Tensor, "n"]:
        """A number per architecture, different for different ones (up to the odds of a 63-bit hash in huge spaces)."""
        places = [math.prod(self.choices[slot + 1 :]) for slot in range(self.slots)]
        if places[0] * self.choices[0] > 2**63:
            generator = torch.Generator().manual_seed(0)
            table = torch.randint(2**62, (self.slots, self.max_choices), generator=generator)
            return table.expand(len(population), -1, -1).gather(2, population[:, :, None]).sum((1, 2))
        return (population * torch.tensor(places)).sum(-1)

    def encode(self, population: Population) -> list[str]:
        """Readable text codes, the exact inverse of `decode`."""
        codes = []
        for row in population.tolist():
            symbols = (offered[operation] for offered, operation in zip(self.operations, row, strict=True))
            codes.append("-".join("".join(islice(symbols, n)) for n in self.groups))
        return codes

    def decode(self, codes: list[str]) -> Population:
        """Codes or own texts to integers; raises `UserError` that names the text and what is wrong with it."""
        rows = [self.of_own_text(code) or self._of_code(code) for code in codes]
        return torch.tensor(rows, dtype=torch.int64).reshape(len(codes), self.slots)

    def _of_code(self, code: str) -> list[int]:
        parts = code.split("-")
        if tuple(map(len, parts)) != self.groups:
            shape = "-".join("?" * n for n in self.groups)
            raise UserError(f"architecture {code!r}: space {self.name} writes {self.slots} operations as {shape}")
        row = []
        for slot, (symbol, offered) in enumerate(zip("".join(parts), self.operations, strict=True)):
            if symbol not in offered:
                raise UserError(f"architecture {code!r}: slot {slot} has {symbol!r}; allowed are {', '.join(offered)}")
            row.append(offered.index(symbol))
        return row

    def own_text(self, architecture: Int64[Tensor, "s"]) -> str | None:
        """What the benchmark itself writes for (s,), which `decode` reads, too; None where there is no such text."""
        return None

    def of_own_text(self, text: str) -> list[int] | None:
        """The inverse of `own_text`; None for what is no such text, `UserError` for one that is wrong."""
        return None

    def from_genotype(self, text: str) -> Int64[Tensor, "s"]:
        """The architecture of DARTS's text form; raises `UserError` where the space has none, or the text is wrong."""
        raise UserError(f"--genotype: space {self.name} has none; leave --space out, or give nasnet")

    def facts(self, architecture: Int64[Tensor, "s"]) -> dict[str, str | None]:
        """What `vaenas show` tells of a valid (s,) besides its costs."""
        return {"genotype": None, "cell": self.own_text(architecture)}


def gumbel(shape: tuple[int, ...], rng: Generator) -> Float[Tensor, "..."]:
    """Standard Gumbel noise: the largest of logits + noise is a sample of their softmax."""
    # -log(Exp(1)); exponential_ never gives 0 in the limit that matters here.
    return torch.empty(shape, dtype=torch.float32).exponential_(generator=rng).log().neg()


PROPOSALS = 6400  # for each architecture that is needed


class ConstraintTooTight(UserError):
    """Rejection gave up: too few proposals keep the constraints."""


def draw_valid(
    propose: Callable[[int], Population],
    is_feasible: IsFeasible,
    n: int,
    constraints: str = "the constraints",
    max_proposals: int | None = None,
) -> Population:
    """n accepted architectures by rejection: the accepted proposals of as many rounds as it takes.

    Args:
        propose: gives that many fresh proposals, independent of the ones before.
        constraints: what `is_feasible` is, for the message of `ConstraintTooTight` when it gives up.
        max_proposals: after so many it does; by default 6400 for each of n, and of 64 where n is less: who needs
            1,000 may rely on a check that 256 can be drawn.
    """
    kept: list[Tensor] = []
    passed = tried = 0
    max_proposals = max_proposals or PROPOSALS * max(n, 64)
    while tried < max_proposals:
        # The first round asks for just n: most spaces accept nearly everything.
        proposals = propose(n if tried == 0 else max(n, 4096))
        good = proposals[is_feasible(proposals)]
        kept.append(good)
        tried, passed = tried + len(proposals), passed + len(good)
        if passed >= n:
            return torch.cat(kept)[:n]
    raise ConstraintTooTight(
        f"of {tried} architectures drawn only {passed} keep {constraints}; {n} are needed: loosen it"
    )


def until_valid(
    propose: Callable[[Int64[Tensor, "m"]], Population],
    is_valid: IsFeasible,
    otherwise: Population,
    max_tries: int = 100,
) -> Population:
    """One valid proposal for each row, by rejection: unlike `draw_valid`, rows have distributions of their own.

    Args:
        propose: gives one fresh proposal for each of the rows with the given numbers.
        otherwise: (n, s), what a row becomes that is still invalid after `max_tries` rounds.
    """
    result, pending = otherwise.clone(), torch.arange(len(otherwise))
    for _ in range(max_tries):
        proposals = propose(pending)
        good = is_valid(proposals)
        result[pending[good]] = proposals[good]
        pending = pending[~good]
        if not len(pending):
            break
    return result


def rows_in(population: Population, others: Int64[Tensor, "m s"]) -> Bool[Tensor, "n"]:
    """Which rows of `population` also stand in `others`."""
    return (population[:, None, :] == others[None, :, :]).all(-1).any(-1)


def first_of_equals(keys: Int64[Tensor, "n"]) -> Int64[Tensor, "_"]:
    """Indices of each key's first appearance, ascending."""
    return torch.from_numpy(np.unique(keys.numpy(), return_index=True)[1]).sort().values
