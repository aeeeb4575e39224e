"""Benchmarks to tables, by how a file's name ends; here those of plain sequence spaces, and a user's own CSV."""

import csv
import math
import string
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float64
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from vaenas.bench.import_nasbench101 import columns, from_parquet, from_tfrecord
from vaenas.documents import from_json, short
from vaenas.errors import UserError
from vaenas.evaluation.table_file import MOST_PARAMS
from vaenas.evaluation.tabular import TabularBenchmark
from vaenas.spaces import nasbench201
from vaenas.spaces.macro import macro_space
from vaenas.spaces.space import SearchSpace

DATASETS = {"cifar10": "cifar10", "cifar100": "cifar100", "imagenet16-120": "imagenet16"}
"""NAS-Bench-201's data sets, and what their columns begin with."""
NO_EPOCHS = (0,)
"""The budgets of a source that states no epochs."""
_SYMBOLS = string.digits + string.ascii_letters


def import_table(
    path: Path,
    *,
    dataset: str | None = None,
    slots: list[str] | None = None,
    score: str | None = None,
    test: str | None = None,
) -> TabularBenchmark:
    """A table from a file.

    Args:
        path: NAS-Bench-101 as `.tfrecord` or `.parquet`; NAS-Bench-Macro as `.json`; NAS-Bench-201 as `.csv`; any other
            `.csv` with `slots` and `score`.
        dataset: NAS-Bench-201 only, one of `DATASETS`; by default cifar10.
        slots, score, test: columns of a user's own CSV: choices, what a search observes, what to report by.

    Raises:
        UserError: the file is of no known kind, not whole, or has other content; an option does not fit it.
    """
    kind, own = path.suffix.lower(), (slots, score, test) != (None, None, None)
    if own and kind != ".csv":
        raise UserError(f"{path}: --slots, --score and --test are for a CSV of your own; leave them out")
    if dataset is not None and (own or kind != ".csv"):
        raise UserError(f"--dataset {dataset}: only for NAS-Bench-201's CSV; leave it out")
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: cannot read it: not a regular file; check the path")
    try:
        if own:
            if not slots or score is None:
                raise UserError(f"{path}: a CSV of your own needs both --slots a,b,c and --score column")
            return from_csv(path, slots, score, test)
        if kind == ".csv":
            return from_nasbench201(path, dataset or "cifar10")
        importers = {".tfrecord": from_tfrecord, ".parquet": from_parquet, ".json": from_nasbench_macro}
        if kind in importers:
            return importers[kind](path)
    except OSError as error:
        raise UserError(f"{path}: cannot read it: {error.strerror}; check the path") from error
    raise UserError(f"{path}: unknown kind of file; known are .tfrecord, .parquet, .json and .csv")


def from_nasbench201(path: Path, dataset: str) -> TabularBenchmark:
    """A table of NAS-Bench-201 (Dong & Yang 2020) on one of `DATASETS`, after 12 and 200 epochs.

    Columns of the CSV: `cell` (the benchmark's strings), `params`, and for each data set and budget `{d}_val_{b}ep` and
    `{d}_test_{b}ep` in percent, empty where unknown; a missing column is unknown throughout.
    """
    if dataset not in DATASETS:
        raise UserError(f"--dataset {dataset}: unknown; NAS-Bench-201 has {', '.join(DATASETS)}")
    rows = _rows(path, ["cell", "params"])
    epochs, params = (12, 200), _numbers(path, rows, "params", MOST_PARAMS)

    def accuracies(part: str) -> Float64[Tensor, "n 2 1"]:
        names = [f"{DATASETS[dataset]}_{part}_{e}ep" for e in epochs]
        found = np.stack([_numbers(path, rows, name, 100, optional=True) for name in names], axis=1)
        return torch.from_numpy(found)[..., None] / 100

    try:
        population = torch.tensor([nasbench201.parse(row["cell"]) for _, row in rows])
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return TabularBenchmark.of(
        nasbench201.NASBench201Space(), population, epochs, accuracies("val"), test=accuracies("test"),
        params=torch.from_numpy(params).long(), source=path.name, measured=f"validation accuracy on {dataset}",
        scale=100.0,
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
        space, population, NO_EPOCHS, accuracies, params=params, source=path.name, measured="accuracy on cifar10",
        scale=100.0,
    )  # fmt: skip


def from_csv(path: Path, slots: list[str], score: str, test: str | None = None) -> TabularBenchmark:
    """A table of a user's own search space: one row of the CSV is one evaluation.

    Rows with the same values in all slots (texts, at most 62 different ones each) are further runs of one architecture.
    Scores may be any numbers, higher is better: from 0 to 1 they are accuracies; from 0 to 100 they are percent; any
    others are scaled to [0, 1], the worst to 0 and the best to 1. Score and test go by one scale, which the table keeps
    (`offset`, `scale`).
    """
    slots, scored = [name.strip() for name in slots], [name.strip() for name in (score, test) if name is not None]
    if len({*slots, *scored}) < len(slots) + len(scored):
        raise UserError(f"--slots {','.join(slots)} --score {', '.join(scored)}: a column is named twice; name it once")
    rows = _rows(path, [*slots, *scored])
    values: dict[str, list[str]] = {}
    choices = np.empty((len(rows), len(slots)), dtype=np.int64)
    for slot, name in enumerate(slots):
        for line, row in rows:
            if not row[name]:
                raise UserError(f"{path}: line {line} has no value in column {name!r}: fill it in")
        values[name] = sorted({row[name] for _, row in rows})
        if len(values[name]) > len(_SYMBOLS):
            raise UserError(
                f"{path}: column {name!r} has {len(values[name])} values; at most {len(_SYMBOLS)}: bin them"
            )
        choices[:, slot] = [values[name].index(row[name]) for _, row in rows]
    population, rows_of = np.unique(choices, axis=0, return_inverse=True)
    observed = np.stack([_numbers(path, rows, name) for name in scored], axis=1)
    lowest, highest = float(observed.min()), float(observed.max())
    offset, scale = lowest, highest - lowest or 1.0
    if lowest >= 0 and highest <= 100:
        offset, scale = 0.0, 1.0 if highest <= 1 else 100.0
    if not math.isfinite(scale):
        raise UserError(f"{path}: scores from {lowest:g} to {highest:g} are too far apart: scale them down")
    accuracies = columns(rows_of.ravel(), np.zeros(len(rows), dtype=np.int64), (observed - offset) / scale)
    space = SearchSpace(f"csv:{path.stem}", tuple(_SYMBOLS[: len(values[name])] for name in slots), (len(slots),))
    return TabularBenchmark.of(
        space, torch.from_numpy(population), NO_EPOCHS, accuracies[0], test=accuracies[1] if test else None,
        source=path.name, measured=f"column {scored[0]!r}", offset=offset, scale=scale, slots=values,
    )  # fmt: skip


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


def _numbers(
    path: Path, rows: list[tuple[int, dict[str, str]]], name: str, highest: float | None = None, optional: bool = False
) -> Float64[np.ndarray, "n"]:
    """A column's numbers: any, or those in [0, `highest`]; NaN for what is empty, or in no column, if `optional`."""
    numbers = np.full(len(rows), math.nan)
    for i, (line, row) in enumerate(rows):
        if optional and not row.get(name):
            continue
        with suppress(ValueError):
            numbers[i] = float(row[name])
        if not math.isfinite(numbers[i]) or (highest is not None and not 0 <= numbers[i] <= highest):
            needed = "a number" if highest is None else f"a number from 0 to {highest}"
            raise UserError(
                f"{path}: line {line} has {short(row[name])} in column {short(name)}; {needed} is needed: put it right"
            )
    return numbers
