"""Benchmarks: tables of separately trained architectures that answer whole populations."""

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from vaenas.data.cache import cache_dir
from vaenas.documents import first_of, from_json
from vaenas.errors import UserError
from vaenas.spaces.macro import macro_space
from vaenas.spaces.nasbench101 import nasbench101_space
from vaenas.spaces.nasbench201 import nasbench201_space
from vaenas.spaces.space import Population, Scores, SearchSpace
from vaenas.tensors import Format, check_whole, read_tensors, write_tensors

FORMAT = Format("vaenas table 2", "a table", "make one by: vaenas bench import")
LONGEST_TRAINING = 1e12  # seconds; float32 has none beyond 3e38
MOST_PARAMS = 2**53  # as exact as a number in JSON and CSV

Values = Float[Tensor, "n b r"]
"""Of n architectures after training for b epoch budgets in r runs; NaN where unknown."""


class _Space(NamedTuple):
    """What a table says of its search space."""

    name: str
    operations: tuple[str, ...]
    groups: tuple[int, ...]

    def space(self) -> SearchSpace:
        """The space; one that has rules or features of its own by its name. `ValueError` where there is none such."""
        for space in (nasbench101_space(), nasbench201_space(), macro_space()):
            if self == (space.name, space.operations, space.groups):
                return space
            if self.name == space.name:
                raise ValueError(f"operations of another space than {space.name}")
        space = SearchSpace(self.name, self.operations, self.groups)
        if space.max_choices > 256:
            raise ValueError(f"{space.max_choices} choices in one slot; at most 256")
        return space


class _Facts(BaseModel):
    """The metadata of a table: see `TabularBenchmark`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    space: _Space
    budgets: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(min_length=1)]
    test_budgets: tuple[int, ...]
    source: str
    measured: str
    offset: float
    scale: Annotated[float, Field(gt=0)]
    slots: dict[str, list[str]]

    @model_validator(mode="after")
    def _agree(self) -> "_Facts":
        space = self.space.space()
        if any(a >= b for a, b in zip(self.budgets, self.budgets[1:], strict=False)):
            raise ValueError(f"budgets {list(self.budgets)} are not ascending")
        if list(self.test_budgets) != [b for b in self.budgets if b in self.test_budgets]:
            raise ValueError(f"test budgets {list(self.test_budgets)} are not some of {list(self.budgets)}")
        if self.slots and tuple(len(set(values)) for values in self.slots.values()) != space.choices:
            raise ValueError(f"the slots' values are not as many as the choices, {list(space.choices)}")
        return self


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

    def __init__(self, name: str, tensors: dict[str, Tensor], facts: _Facts) -> None:
        self.name, self._tensors, self._facts = name, tensors, facts
        self.space = facts.space.space()
        self.budgets, self.test_budgets = facts.budgets, facts.test_budgets
        self.runs: int = tensors["validation"].shape[2]
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

        Raises:
            UserError: a row is no architecture of the space, stands there twice, or has an accuracy outside [0, 1].
        """
        columns = {"validation": validation, "test": test, "seconds": seconds}
        given = {name: values.float() for name, values in columns.items() if values is not None}
        given |= {name: values for name, values in (("params", params), ("hash", hashes)) if values is not None}
        _check(space, population, source)
        _check_values(space, population, given, source)
        keys, order = space.keys(population).sort()
        if (twice := keys[1:] == keys[:-1]).any():
            i, j = order[int(twice.int().argmax()) :][:2].tolist()
            raise UserError(f"{source}: rows {i} and {j} are the same architecture; keep one")
        tensors = {name: values[order] for name, values in given.items()}
        tensors |= {"keys": keys, "population": population[order].to(torch.uint8)}
        try:
            facts = _Facts(
                space=_Space(space.name, space.operations, space.groups), budgets=budgets,
                test_budgets=_tested(budgets, test), source=source, measured=measured, offset=float(offset),
                scale=float(scale), slots=slots or {},
            )  # fmt: skip
        except ValidationError as error:  # of a file's name that is no text, or scores that have no scale
            raise UserError(f"{source}: {first_of(error)}") from None
        return cls(source, tensors, facts)

    @classmethod
    def open(cls, path: Path) -> "TabularBenchmark":
        """The table in a file that `save` wrote; it stays on disk until asked.

        The content of a file is checked when it is first opened (less than a second for 423,624 cells), and again
        after it has changed.

        Raises:
            UserError: there is no such file, or it is not a table of this format, or not whole.
        """
        table = cls(str(path), *_read(path))
        state = path.stat()
        known = f"{FORMAT.name} {path.resolve()} {state.st_ino} {state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}"
        note = cache_dir() / "whole-tables" / hashlib.sha256(os.fsencode(known)).hexdigest()
        if note.is_file():
            return table
        check_whole(path, FORMAT)
        table._check_content()
        with suppress(OSError):  # no cache, no note
            if time.time() - state.st_ctime > 2:  # else another change may get the same time
                note.parent.mkdir(parents=True, exist_ok=True)
                note.touch()
        return cls(str(path), *_read(path))  # of which nothing is in memory

    def _check_content(self) -> None:
        """Raises `UserError` where rows and values are not what the class promises."""
        population, what = self._tensors["population"], f"{self.name}: damaged"
        for part, keys in zip(population.split(1 << 15), self._tensors["keys"].split(1 << 15), strict=True):
            rows = part.long()
            _check(self.space, rows, what)
            if not torch.equal(self.space.keys(rows), keys):
                raise UserError(f"{what}: its keys are not those of its rows; {FORMAT.again}")
        if not (self._tensors["keys"].diff() > 0).all():
            raise UserError(f"{what}: its rows are not in the order of their keys; {FORMAT.again}")
        _check_values(self.space, population, self._tensors, what)
        if self.test_budgets != _tested(self.budgets, self._tensors.get("test")):
            raise UserError(f"{what}: its test budgets are not those that have a test accuracy; {FORMAT.again}")

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

        Cells of NAS-Bench-101 are the same if they are isomorphic once dangling vertices are pruned.

        Raises:
            UserError: names the first row that is no architecture of the space, and the rule that it breaks.
        """
        _check(self.space, population, "population")
        keys, wanted = self._tensors["keys"], self.space.keys(population)
        rows = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
        found = keys[rows] == wanted
        if not found.all():
            self.space.check_rules(population)  # what is in the table keeps them
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


def _read(path: Path) -> tuple[dict[str, Tensor], _Facts]:
    """Tensors and metadata that fit each other; what the tensors hold is not looked at."""
    tensors, text = read_tensors(path, FORMAT)
    try:
        facts = from_json(_Facts, text)
    except ValueError as error:
        raise UserError(f"{path}: wrong metadata: {error}; {FORMAT.again}") from None
    measured = tensors.get("validation", torch.empty(0))
    n, r = (measured.shape[0], measured.shape[2]) if measured.ndim == 3 else (0, 0)
    per_run = torch.float32, (n, len(facts.budgets), r)
    expected = {
        "keys": (torch.int64, (n,)), "population": (torch.uint8, (n, len(facts.space.operations))),
        "validation": per_run, "test": per_run, "seconds": per_run, "params": (torch.int64, (n,)),
        "hash": (torch.uint8, (n, 16)),
    }  # fmt: skip
    optional = {"seconds", "params", "hash"} | (set() if facts.test_budgets else {"test"})
    if not n or not r or not expected.keys() - optional <= tensors.keys() <= expected.keys():
        raise UserError(f"{path}: tensors {', '.join(sorted(tensors))}, not those of a table with rows; {FORMAT.again}")
    for name, tensor in tensors.items():
        if (tensor.dtype, tuple(tensor.shape)) != expected[name]:
            raise UserError(
                f"{path}: {name} is {tensor.dtype} {list(tensor.shape)}, not {expected[name][0]} "
                f"{list(expected[name][1])}; {FORMAT.again}"
            )
    return tensors, facts


def _tested(budgets: tuple[int, ...], test: Values | None) -> tuple[int, ...]:
    """The budgets with test accuracies."""
    known = [] if test is None else [not values.isnan().all() for values in test.unbind(1)]
    return tuple(budget for budget, has in zip(budgets, known, strict=False) if has)


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


def _check_values(space: SearchSpace, population: Tensor, tensors: dict[str, Tensor], what: str) -> None:
    """Raises `UserError` for the first row that breaks the space's rules, or value that is out of its range."""
    size = 1 << 15  # bounds the memory
    for i, part in enumerate(population.split(size)):
        try:
            space.check_rules(part.long())
        except UserError as error:
            raise UserError(f"{what}: of the rows from {i * size} on, {error}") from error
    for name, words, highest in (
        ("validation", "validation accuracy", 1), ("test", "test accuracy", 1),
        ("seconds", "seconds", LONGEST_TRAINING), ("params", "params", MOST_PARAMS),
    ):  # fmt: skip
        for values in tensors[name].split(size) if name in tensors else ():
            outside = (values < 0) | (values > highest)
            if outside.any():
                first = values[outside][0].item()
                limits = "accuracies lie in [0, 1]" if highest == 1 else f"must lie in [0, {highest:g}]"
                raise UserError(f"{what}: {words} {first:.6g}; {limits}")
