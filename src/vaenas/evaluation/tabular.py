"""Benchmarks: tables of separately trained architectures that answer whole populations."""

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from pydantic import ValidationError
from torch import Tensor

from vaenas.data.cache import cache_dir
from vaenas.documents import first_of
from vaenas.errors import UserError
from vaenas.evaluation.table_file import FORMAT, Facts, Space, Values, check_values, checked_keys, read_table, tested
from vaenas.spaces.space import Population, Scores, SearchSpace
from vaenas.tensors import check_whole, write_tensors

Run = int | Int64[Tensor, "n"] | None
"""One run, or one for each architecture, in [0, runs); None: the mean over those that are known."""


class TabularBenchmark:
    """What training each architecture gave: n architectures, b epoch budgets, r runs (seeds) of each.

    A table is one safetensors file: memory-mapped, so that opening it costs next to nothing and a query touches only
    what it asks for; nothing in it can run code. `vaenas.tensors` says what else is in it. Its tensors are

        keys        int64   (n,)       ascending; NAS-Bench-101: `cells.canonical_key`, else the row's digits, a number
        population  uint8   (n, s)
        validation  float32 (n, b, r)  accuracies in [0, 1]; NaN where unknown
        test        float32 (n, b, r)  the same, if the source has it
        seconds     float32 (n, b, r)  of training, if the source has it; NaN where unknown
        params      int64   (n,)       trainable parameters, if the source has it
        hash        uint8   (n, 16)    the official hash, if the source has it

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
    """

    def __init__(self, name: str, tensors: dict[str, Tensor], facts: Facts) -> None:
        self.name, self._tensors, self._facts = name, tensors, facts
        self.space, self.runs = facts.space.space(), tensors["validation"].shape[2]
        self.budgets, self.test_budgets = facts.budgets, facts.test_budgets
        self.source, self.measured = facts.source, facts.measured
        self.offset, self.scale, self.slots = facts.offset, facts.scale, facts.slots

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

        `UserError` names a row that is no architecture of the space or stands there twice, or a value out of range.
        """
        columns = {"validation": validation, "test": test, "seconds": seconds, "params": params, "hash": hashes}
        given = {name: x.float() if x.is_floating_point() else x for name, x in columns.items() if x is not None}
        keys, order = checked_keys(space, population, source).sort()
        check_values(given, source)
        if (twice := keys[1:] == keys[:-1]).any():
            i, j = order[int(twice.int().argmax()) :][:2].tolist()
            raise UserError(f"{source}: rows {i} and {j} are the same architecture; keep one")
        tensors = {name: values[order] for name, values in given.items()}
        tensors |= {"keys": keys, "population": population[order].to(torch.uint8)}
        try:
            facts = Facts(
                space=Space(space.name, space.operations, space.groups), budgets=budgets,
                test_budgets=tested(budgets, test), source=source, measured=measured, offset=float(offset),
                scale=float(scale), slots=slots or {},
            )  # fmt: skip
        except ValidationError as error:  # of a file's name that is no text, or scores that have no scale
            raise UserError(f"{source}: {first_of(error)}") from None
        return cls(source, tensors, facts)

    @classmethod
    def open(cls, path: Path) -> "TabularBenchmark":
        """The table in a file that `save` wrote; it stays on disk until asked. `UserError` if it is none, or not whole.

        Its content is checked when it is first opened (less than a second for 423,624 cells), and after each change.
        """
        table = cls(str(path), *read_table(path))
        state = path.stat()
        known = f"{FORMAT.name} {path.resolve()} {state.st_ino} {state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}"
        note = cache_dir() / "whole-tables" / hashlib.sha256(os.fsencode(known)).hexdigest()
        if note.is_file():
            return table
        check_whole(path, FORMAT)
        what, keys = f"{path}: damaged", table._tensors["keys"]
        if not torch.equal(checked_keys(table.space, table._tensors["population"], what), keys):
            raise UserError(f"{what}: its keys are not those of its rows; {FORMAT.again}")
        if not (keys.diff() > 0).all():
            raise UserError(f"{what}: its rows are not in the order of their keys; {FORMAT.again}")
        check_values(table._tensors, what)
        if table.test_budgets != tested(table.budgets, table._tensors.get("test")):
            raise UserError(f"{what}: its test budgets are not those that have a test accuracy; {FORMAT.again}")
        with suppress(OSError):  # no cache, no note
            if time.time() - state.st_ctime > 2:  # else another change may get the same time
                note.parent.mkdir(parents=True, exist_ok=True)
                note.touch()
        return cls(str(path), *read_table(path))  # of which nothing is in memory

    def save(self, path: Path) -> None:
        """Writes the table, in one move where a file stands already; needs twice the table's size more in memory."""
        write_tensors(path, self._tensors, FORMAT, self._facts.model_dump_json())

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

        Cells of NAS-Bench-101 are the same if they are isomorphic once dangling vertices are pruned. `UserError` names
        the first row that is no architecture of the space, and the rule that it breaks.
        """
        self.space.check_entries(population)
        keys, wanted = self._tensors["keys"], self.space.keys(population)
        rows = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
        found = keys[rows] == wanted
        if not found.all():
            self.space.check_rules(population)  # what is in the table keeps them
        return torch.where(found, rows, -1)

    def known(self, population: Population, budget: int | None = None) -> Bool[Tensor, "n"]:
        """Which architectures have a label (a validation accuracy) at this budget, by default the largest."""
        return ~self.validation(population, budget).isnan()

    def validation(self, population: Population, budget: int | None = None, run: Run = None) -> Scores:
        """Validation accuracies of (n, s) in [0, 1] after `budget` epochs, by default the largest; NaN: unknown."""
        return self._look_up("validation", population, budget, run)

    def test(self, population: Population, budget: int | None = None, run: Run = None) -> Scores:
        """Test accuracies, as `validation`; `UserError` where the table has none at this budget."""
        epochs = self.budgets[self._budget(budget)]
        if epochs not in self.test_budgets:
            at = f"; it has some at {_listed(self.test_budgets)} epochs" if self.test_budgets else ""
            raise UserError(f"{self.name}: no test accuracy at {epochs} epochs{at}; use validation accuracies")
        return self._look_up("test", population, budget, run)

    def seconds(self, population: Population, budget: int | None = None, run: Run = None) -> Float[Tensor, "n"]:
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

    def _look_up(self, name: str, population: Population, budget: int | None, run: Run) -> Float[Tensor, "n"]:
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
