"""The file of a table: what it says of itself, and what is checked before it is believed."""

from pathlib import Path
from typing import Annotated, NamedTuple

import torch
from jaxtyping import Float, Int64
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from vaenas.documents import from_json
from vaenas.errors import UserError
from vaenas.spaces.macro import macro_space
from vaenas.spaces.nasbench101 import NASBench101Space
from vaenas.spaces.nasbench201 import NASBench201Space
from vaenas.spaces.space import SearchSpace
from vaenas.tensors import Format, read_tensors

FORMAT = Format("vaenas table 2", "a table", "make one by: vaenas bench import")
BENCHMARK_SPACES = {space.name: space for space in (NASBench101Space(), NASBench201Space(), macro_space())}
LONGEST_TRAINING = 1e12  # seconds; float32 has none beyond 3e38
MOST_PARAMS = 2**53  # as exact as a number in JSON and CSV
HIGHEST = {"validation": 1, "test": 1, "seconds": LONGEST_TRAINING, "params": MOST_PARAMS}  # each is 0 or more
CHUNK = 1 << 15  # rows checked at a time: bounds the memory

Values = Float[Tensor, "n b r"]
"""Of n architectures after training for b epoch budgets in r runs; NaN where unknown."""


class Space(NamedTuple):
    """What a table says of its search space."""

    name: str
    operations: tuple[str, ...]
    groups: tuple[int, ...]

    def space(self) -> SearchSpace:
        """The space, a benchmark's with its own rules and features; `ValueError` where there is none such."""
        space = BENCHMARK_SPACES.get(self.name) or SearchSpace(*self)
        if self != (space.name, space.operations, space.groups):
            raise ValueError(f"operations of another space than {space.name}")
        if space.max_choices > 256:
            raise ValueError(f"{space.max_choices} choices in one slot; at most 256")
        return space


class Facts(BaseModel):
    """The metadata of a table: see `TabularBenchmark`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    space: Space
    budgets: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(min_length=1)]
    test_budgets: tuple[int, ...]
    source: str
    measured: str
    offset: float
    scale: Annotated[float, Field(gt=0)]
    slots: dict[str, list[str]]

    @model_validator(mode="after")
    def _agree(self) -> "Facts":
        space = self.space.space()
        if any(a >= b for a, b in zip(self.budgets, self.budgets[1:], strict=False)):
            raise ValueError(f"budgets {list(self.budgets)} are not ascending")
        if list(self.test_budgets) != [b for b in self.budgets if b in self.test_budgets]:
            raise ValueError(f"test budgets {list(self.test_budgets)} are not some of {list(self.budgets)}")
        if self.slots and tuple(len(set(values)) for values in self.slots.values()) != space.choices:
            raise ValueError(f"the slots' values are not as many as the choices, {list(space.choices)}")
        return self


def read_table(path: Path) -> tuple[dict[str, Tensor], Facts]:
    """Tensors and metadata that fit each other; what the tensors hold is not looked at."""
    tensors, text = read_tensors(path, FORMAT)
    try:
        facts = from_json(Facts, text)
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


def tested(budgets: tuple[int, ...], test: Values | None) -> tuple[int, ...]:
    """The budgets with test accuracies."""
    known = [] if test is None else [not values.isnan().all() for values in test.unbind(1)]
    return tuple(budget for budget, has in zip(budgets, known, strict=False) if has)


def checked_keys(space: SearchSpace, population: Tensor, what: str) -> Int64[Tensor, "n"]:
    """The rows' keys; raises `UserError` for the first that is no architecture of the space."""
    keys = []
    for i, part in enumerate(population.split(CHUNK)):
        rows = part.long()
        try:
            space.check_entries(rows)
            space.check_rules(rows)
        except UserError as error:
            raise UserError(f"{what}: {f'of the rows from {i * CHUNK} on, ' if i else ''}{error}") from error
        keys.append(space.keys(rows))
    return torch.cat(keys)


def check_values(tensors: dict[str, Tensor], what: str) -> None:
    """Raises `UserError` for the first value that is out of its range."""
    for name, highest in HIGHEST.items():
        for values in tensors[name].split(CHUNK) if name in tensors else ():
            outside = values[(values < 0) | (values > highest)]
            if len(outside):
                kind, must = (f"{name} accuracy", "accuracies") if highest == 1 else (name, "must")
                raise UserError(f"{what}: {kind} {outside[0].item():.6g}; {must} lie in [0, {highest:g}]")
