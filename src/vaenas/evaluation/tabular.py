"""Benchmarks: tables of separately trained architectures that answer whole populations."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from vaenas.errors import UserError
from vaenas.files import write_atomically
from vaenas.spaces import cells
from vaenas.spaces.nasbench101 import nasbench101_space
from vaenas.spaces.nasbench201 import nasbench201_space
from vaenas.spaces.space import Population, Scores, SearchSpace

FORMAT = "vaenas table 1"

Values = Float[Tensor, "n b r"]
"""Of n architectures after training for b epoch budgets in r runs; NaN where unknown."""


class TabularBenchmark:
    """What training each architecture gave: n architectures, b epoch budgets, r runs (seeds) of each.

    A table is one safetensors file: memory-mapped, so that opening it costs next to nothing and a query touches only
    what it asks for; nothing in it can run code. Its metadata is JSON under `FORMAT`'s name; its tensors are

        keys        int64   (n,)       ascending; NAS-Bench-101: `cells.canonical_key`, else the row's digits, a number
        population  uint8   (n, s)
        validation  float32 (n, b, r)  accuracies in [0, 1]; NaN where unknown
        test        float32 (n, b, r)  the same, if the source has it
        seconds     float32 (n, b, r)  of training, if the source has it
        params      int64   (n,)       trainable parameters, if the source has it
        hash        uint8   (n, 16)    the official module hash, NAS-Bench-101 only

    Attributes:
        name: what messages call the table.
        space: the search space; `NASBench101Space` for NAS-Bench-101.
        budgets: epochs, ascending; a source that states none has the one budget 0.
        runs: r, the most runs that any architecture has.
        test_budgets: the budgets with test accuracies.
        source: the name of the file that it was made from.
        measured: what `validation` holds, in words.
        offset, scale: a value in the source is offset + scale * accuracy (scale 100 for percent).
        slots: for a user's own table the slots' names, and of each its values in the order of their indices.

    Example:
        >>> table = TabularBenchmark.open(path)  # doctest: +SKIP
        >>> table.validation(table.labelled()).max()  # doctest: +SKIP
        tensor(0.9491)
    """

    def __init__(self, name: str, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self.name, self._tensors, self._facts = name, tensors, facts
        self.space = _space(facts["space"])
        self.budgets: tuple[int, ...] = tuple(facts["budgets"])
        self.runs: int = tensors["validation"].shape[2]
        self.test_budgets: tuple[int, ...] = tuple(facts["test_budgets"])
        self.source: str = facts["source"]
        self.measured: str = facts["measured"]
        self.offset: float = facts["offset"]
        self.scale: float = facts["scale"]
        self.slots: dict[str, list[str]] = facts["slots"]

    @classmethod
    def of(
        cls,
        space: SearchSpace,
        population: Population,
        budgets: tuple[int, ...],
        validation: Values,
        *,
        source: str,
        measured: str,
        test: Values | None = None,
        seconds: Values | None = None,
        params: Int64[Tensor, "n"] | None = None,
        hashes: UInt8[Tensor, "n 16"] | None = None,
        offset: float = 0.0,
        scale: float = 1.0,
        slots: dict[str, list[str]] | None = None,
    ) -> "TabularBenchmark":
        """A table in memory, rows in any order; arguments as the attributes and tensors of the class.

        Raises:
            UserError: a row is no architecture of the space, stands there twice, or has an accuracy outside [0, 1].
        """
        _check(space, population, source)
        if space.name == "nasbench101":
            _check_cells(population, source)
        for what, values in (("validation", validation), ("test", test)):
            outside = torch.zeros(0) if values is None else values[(values < 0) | (values > 1)]
            if len(outside):
                raise UserError(f"{source}: {what} accuracy {float(outside[0]):.6g}; accuracies lie in [0, 1]")
        keys, order = space.keys(population).sort()
        if (twice := keys[1:] == keys[:-1]).any():
            i, j = order[int(twice.int().argmax()) :][:2].tolist()
            raise UserError(f"{source}: rows {i} and {j} are the same architecture; keep one")
        columns = {"validation": validation, "test": test, "seconds": seconds}
        tensors = {name: values[order].float() for name, values in columns.items() if values is not None}
        tensors |= {"keys": keys, "population": population[order].to(torch.uint8)}
        tensors |= {name: t[order] for name, t in (("params", params), ("hash", hashes)) if t is not None}
        tested = (
            [] if test is None else [b for b, t in zip(budgets, test.unbind(1), strict=True) if not t.isnan().all()]
        )
        facts = {
            "space": {"name": space.name, "operations": space.operations, "groups": space.groups},
            "budgets": budgets, "test_budgets": tested, "source": source, "measured": measured,
            "offset": offset, "scale": scale, "slots": slots or {},
        }  # fmt: skip
        return cls(source, tensors, facts)

    @classmethod
    def open(cls, path: Path) -> "TabularBenchmark":
        """The table in a file that `save` wrote; it stays on disk until asked.

        Raises:
            UserError: there is no such file, or it is not a table of this format.
        """
        mend = "make one by: vaenas bench import"
        try:
            with safe_open(path, framework="pt") as file:
                facts = (file.metadata() or {}).get(FORMAT)
                if facts is None:
                    raise UserError(f"{path}: not a table of this format ({FORMAT}); {mend}")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
        except SafetensorError as error:
            raise UserError(f"{path}: not a whole table ({error}); {mend}") from error
        except OSError as error:
            raise UserError(f"{path}: cannot read it ({error.strerror or error}); {mend}") from error
        return cls(str(path), tensors, json.loads(facts))

    def save(self, path: Path) -> None:
        """Writes the table, in one move where a file stands already; needs once more the table's size in memory."""
        write_atomically(path, save(self._tensors, {FORMAT: json.dumps(self._facts)}))

    def __len__(self) -> int:
        return len(self._tensors["keys"])

    @property
    def population(self) -> Population:
        """Every architecture of the table, labelled or not; a copy."""
        return self._tensors["population"].long()

    @property
    def has_test(self) -> bool:
        """Whether there are test accuracies at the largest budget."""
        return self.budgets[-1] in self.test_budgets

    def digest(self) -> str:
        """Changes with the architectures and their accuracies."""
        content = hashlib.sha256()
        for name in ("keys", "validation", "test"):
            if name in self._tensors:
                content.update(self._tensors[name].numpy().tobytes())
        return content.hexdigest()

    def expect(self, space: str) -> None:
        """Raises `UserError` unless the table is one of the space of this name."""
        if self.space.name != space:
            raise UserError(f"{self.name}: a table of space {self.space.name}; {space} is needed: give its table")

    def rows(self, population: Population) -> Int64[Tensor, "n"]:
        """Where each architecture stands in the table, in [0, len(table)); -1 where it does not.

        Cells of NAS-Bench-101 are the same if they are isomorphic once dangling vertices are pruned.

        Raises:
            UserError: names the first row that is no architecture of the space, and the rule that it breaks.
        """
        _check(self.space, population, "population")
        keys, wanted = self._tensors["keys"], self.space.keys(population)
        rows = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
        found = keys[rows] == wanted
        if self.space.name == "nasbench101" and not found.all():
            cells.check(population)  # what is in the table keeps the rules
        return torch.where(found, rows, -1)

    def known(self, population: Population, budget: int | None = None) -> Bool[Tensor, "n"]:
        """Which architectures have a label (a validation accuracy) at this budget, by default the largest."""
        return ~self.validation(population, budget).isnan()

    def validation(
        self, population: Population, budget: int | None = None, run: int | Int64[Tensor, "n"] | None = None
    ) -> Scores:
        """Validation accuracies in [0, 1], NaN where unknown.

        Args:
            population: (n, s).
            budget: epochs; by default the largest.
            run: by default the mean over the runs that are known; or that run, in [0, runs); or one for each row.
        """
        return self._look_up("validation", population, budget, run)

    def test(
        self, population: Population, budget: int | None = None, run: int | Int64[Tensor, "n"] | None = None
    ) -> Scores:
        """Test accuracies, as `validation`; `UserError` where the table has none at this budget."""
        epochs = self.budgets[self._budget(budget)]
        if epochs not in self.test_budgets:
            at = f"; it has some at {_listed(self.test_budgets)} epochs" if self.test_budgets else ""
            raise UserError(f"{self.name}: no test accuracy at {epochs} epochs{at}; use validation accuracies")
        return self._look_up("test", population, budget, run)

    def seconds(
        self, population: Population, budget: int | None = None, run: int | Int64[Tensor, "n"] | None = None
    ) -> Float[Tensor, "n"]:
        """Seconds of training, as `validation`; `UserError` where the table has none."""
        return self._look_up("seconds", population, budget, run)

    def params(self, population: Population) -> Int64[Tensor, "n"]:
        """Trainable parameters, -1 where unknown; `UserError` where the table has none."""
        rows = self.rows(population)
        return torch.where(rows >= 0, self._column("params")[rows.clamp(min=0)], -1)

    def labelled(self, budget: int | None = None) -> Population:
        """Every architecture that has a label (a validation accuracy) at this budget, by default the largest."""
        has = ~self._tensors["validation"][:, self._budget(budget)].isnan().all(-1)
        return self._tensors["population"][has].long()

    def _column(self, name: str) -> Tensor:
        if name not in self._tensors:
            raise UserError(f"{self.name}: the table has no {name}; import it from a source that has")
        return self._tensors[name]

    def _budget(self, budget: int | None) -> int:
        if budget is None:
            return len(self.budgets) - 1
        if budget not in self.budgets:
            raise UserError(f"{self.name}: unknown budget of {budget} epochs; the table has {_listed(self.budgets)}")
        return self.budgets.index(budget)

    def _look_up(
        self, name: str, population: Population, budget: int | None, run: int | Int64[Tensor, "n"] | None
    ) -> Float[Tensor, "n"]:
        column, position, rows = self._column(name), self._budget(budget), self.rows(population)
        values = column[rows.clamp(min=0), position]  # (n, r)
        if run is None:
            values = values[:, 0] if self.runs == 1 else values.nanmean(-1)
        else:
            wanted = torch.as_tensor(run).expand(len(rows))
            outside = wanted[(wanted < 0) | (wanted >= self.runs)]
            if len(outside):
                raise UserError(f"{self.name}: unknown run {int(outside[0])}; the table has 0 to {self.runs - 1}")
            values = values.gather(1, wanted[:, None])[:, 0]
        return values.masked_fill(rows < 0, torch.nan)


def _listed(budgets: tuple[int, ...]) -> str:
    return ", ".join(map(str, budgets))


def _space(facts: dict[str, Any]) -> SearchSpace:
    """The space that was saved; one that has rules or features of its own by its name."""
    for space in (nasbench101_space(), nasbench201_space()):
        if facts["name"] == space.name:
            return space
    return SearchSpace(facts["name"], tuple(facts["operations"]), tuple(facts["groups"]))


def _check(space: SearchSpace, population: Population, what: str) -> None:
    """Raises `UserError` for the first entry that the space does not offer."""
    if population.shape[1] != space.slots:
        raise UserError(f"{what}: rows of {population.shape[1]} slots; space {space.name} has {space.slots}")
    outside = (population < 0) | (population >= torch.tensor(space.choices))
    if outside.any():
        i, slot = outside.nonzero()[0].tolist()
        raise UserError(
            f"{what}: row {i} has {int(population[i, slot])} in slot {slot}; "
            f"space {space.name} takes 0 to {space.choices[slot] - 1} there"
        )


def _check_cells(population: cells.Cells, source: str) -> None:
    size = 1 << 15  # bounds the memory
    for i, part in enumerate(population.split(size)):
        try:
            cells.check(part)
        except UserError as error:
            raise UserError(f"{source}: of the rows from {i * size} on, {error}") from error
