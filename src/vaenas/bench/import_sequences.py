"""Benchmarks of plain sequence spaces to tables: NAS-Bench-201, NAS-Bench-Macro, and a user's own CSV."""

import csv
import math
import string
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from vaenas.bench.columns import columns
from vaenas.documents import from_json, short
from vaenas.errors import UserError
from vaenas.evaluation.table_file import MOST_PARAMS
from vaenas.evaluation.tabular import TabularBenchmark
from vaenas.spaces import nasbench201
from vaenas.spaces.macro import macro_space
from vaenas.spaces.space import SearchSpace

DATASETS = {"cifar10": "cifar10", "cifar100": "cifar100", "imagenet16-120": "imagenet16"}
"""NAS-Bench-201's data sets, and what their columns begin with."""
_SYMBOLS = string.digits + string.ascii_letters
NO_EPOCHS = (0,)
"""The budgets of a source that states no epochs."""


def from_nasbench201(path: Path, dataset: str = "cifar10") -> TabularBenchmark:
    """A table of NAS-Bench-201 (Dong & Yang 2020) on one of `DATASETS`, after 12 and 200 epochs.

    Columns of the CSV: `cell` (the benchmark's strings), `params`, and for each data set and budget `{d}_val_{b}ep` and
    `{d}_test_{b}ep` in percent, empty where unknown; a missing column is unknown throughout.
    """
    if dataset not in DATASETS:
        raise UserError(f"--dataset {dataset}: unknown; NAS-Bench-201 has {', '.join(DATASETS)}")
    rows = _rows(path, ["cell", "params"])
    epochs = (12, 200)

    def accuracies(part: str) -> Float[Tensor, "n 2 1"]:
        names = [f"{DATASETS[dataset]}_{part}_{e}ep" for e in epochs]
        table = [
            [_number(path, line, row, name, 100) if row.get(name) else math.nan for name in names] for line, row in rows
        ]
        return (torch.tensor(table, dtype=torch.float64) / 100).float()[..., None]

    params = [int(_number(path, line, row, "params", MOST_PARAMS)) for line, row in rows]
    try:
        population = torch.tensor([nasbench201.parse(row["cell"]) for _, row in rows])
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return TabularBenchmark.of(
        nasbench201.NASBench201Space(), population, epochs, accuracies("val"), test=accuracies("test"),
        params=torch.tensor(params), source=path.name, measured=f"validation accuracy on {dataset}", scale=100.0,
    )  # fmt: skip


class _Network(BaseModel):
    """One of NAS-Bench-Macro's; what else is known of it is left alone."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    test_acc: Annotated[list[Annotated[float, Field(ge=0, le=100)]], Field(min_length=1)]
    params: Annotated[int, Field(ge=0, le=MOST_PARAMS)]


_Networks = Annotated[dict[str, _Network], Field(min_length=1)]


def from_nasbench_macro(path: Path) -> TabularBenchmark:
    """A table of NAS-Bench-Macro (Su et al. 2021): three runs on CIFAR-10 of each network.

    The JSON has for each code like "02012100" `test_acc` (percent, three runs) and `params`. There is no other
    accuracy: a search observes one of the runs, and the mean of the runs is the truth. They stand under validation.
    """
    space = macro_space()
    try:
        networks = from_json(_Networks, path.read_bytes())
        runs = [len(network.test_acc) for network in networks.values()]
        if len(set(runs)) > 1:
            raise ValueError(f"networks of {min(runs)} and of {max(runs)} runs")
        population = space.decode(list(networks))
    except (ValueError, UserError) as error:
        raise UserError(f"{path}: cannot read it as NAS-Bench-Macro's JSON ({error}); get it anew") from error
    accuracies = torch.tensor([network.test_acc for network in networks.values()], dtype=torch.float64)[:, None] / 100
    params = torch.tensor([network.params for network in networks.values()])
    return TabularBenchmark.of(
        space, population, NO_EPOCHS, accuracies.float(), params=params, source=path.name,
        measured="accuracy on cifar10", scale=100.0,
    )  # fmt: skip


def from_csv(path: Path, slots: list[str], score: str, test: str | None = None) -> TabularBenchmark:
    """A table of a user's own search space: one row of the CSV is one evaluation.

    Rows with the same values in all slots are further runs of one architecture. Scores may be any numbers, higher is
    better: from 0 to 1 they are accuracies; from 0 to 100 they are percent; any others are scaled to [0, 1], the worst
    to 0 and the best to 1. Score and test go by one scale, which the table keeps (`offset`, `scale`).

    Args:
        path: the file; its first line names the columns.
        slots: columns whose values, as texts, are the choices; at most 62 different ones each.
        score: the column that a search observes.
        test: the column to report by.

    Raises:
        UserError: names the column, or the line of the value, that is missing or no number.
    """
    slots, score, test = [name.strip() for name in slots], score.strip(), test and test.strip()
    scored = [score] if test is None else [score, test]
    if len({*slots, *scored}) < len(slots) + len(scored):
        raise UserError(f"--slots {','.join(slots)} --score {', '.join(scored)}: a column is named twice; name it once")
    rows = _rows(path, [*slots, *scored])
    texts = [tuple(row[name] for name in slots) for _, row in rows]
    for (line, _), text in zip(rows, texts, strict=True):
        if "" in text:
            raise UserError(f"{path}: line {line} has no value in column {slots[text.index('')]!r}: fill it in")
    values = {name: sorted(set(column)) for name, column in zip(slots, zip(*texts, strict=True), strict=True)}
    for name, found in values.items():
        if len(found) > len(_SYMBOLS):
            raise UserError(f"{path}: column {name!r} has {len(found)} values; at most {len(_SYMBOLS)}: bin them")
    observed = np.array([[_number(path, line, row, name) for name in scored] for line, row in rows])
    offset, scale = _scale(float(observed.min()), float(observed.max()))
    if not math.isfinite(scale):
        raise UserError(
            f"{path}: scores from {observed.min():g} to {observed.max():g} are too far apart: scale them down"
        )
    architectures = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    population = [
        [values[name].index(value) for name, value in zip(slots, text, strict=True)] for text in architectures
    ]
    rows_of = np.array([architectures[text] for text in texts])
    accuracies = columns(rows_of, np.zeros_like(rows_of), ((observed - offset) / scale).astype(np.float32))
    space = SearchSpace(f"csv:{path.stem}", tuple(_SYMBOLS[: len(values[name])] for name in slots), (len(slots),))
    return TabularBenchmark.of(
        space, torch.tensor(population), NO_EPOCHS, accuracies[0], test=accuracies[1] if test else None,
        source=path.name, measured=f"column {score!r}", offset=offset, scale=scale, slots=values,
    )  # fmt: skip


def _scale(lowest: float, highest: float) -> tuple[float, float]:
    """Offset and scale of scores: of accuracies, of percent, of any other numbers."""
    if lowest >= 0 and highest <= 1:
        return 0.0, 1.0
    if lowest >= 0 and highest <= 100:
        return 0.0, 100.0
    return lowest, highest - lowest or 1.0


def _rows(path: Path, wanted: list[str]) -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV, at least one, by the names in its first line, and the line of each; `wanted` are there once.

    Blanks around names and values do not count.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, skipinitialspace=True)
        try:
            names = [name.strip() for name in next(reader, [])]
            rows = [(reader.line_num, [value.strip() for value in row]) for row in reader if row]
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(f"{path}: no CSV file in UTF-8 from line {reader.line_num + 1} on ({error})") from error
    for line, row in rows:
        if len(row) != len(names):
            raise UserError(f"{path}: line {line} has {len(row)} values; the first line names {len(names)} columns")
    if not rows:
        raise UserError(f"{path}: no rows; the first line names the columns, each further line is one evaluation")
    for name in wanted:
        if names.count(name) != 1:
            raise UserError(
                f"{path}: {names.count(name) or 'no'} columns {name!r}; it has {', '.join(names)[:500]}; "
                f"of a CSV of your own name the columns with --slots and --score"
            )
    return [(line, dict(zip(names, row, strict=True))) for line, row in rows]


def _number(path: Path, line: int, row: dict[str, str], name: str, highest: float | None = None) -> float:
    """The number in one place: any, or one in [0, `highest`]."""
    try:
        number = float(row[name])
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or (highest is not None and not 0 <= number <= highest):
        needed = "a number" if highest is None else f"a number from 0 to {highest}"
        raise UserError(
            f"{path}: line {line} has {short(row[name])} in column {short(name)}; {needed} is needed: put it right"
        )
    return number
