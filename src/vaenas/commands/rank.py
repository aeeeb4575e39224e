"""`vaenas rank` and `vaenas choose`: what a finished search says of other architectures, and of other budgets."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vaenas.commands.options import Json, SpaceFile, given, setting_options, with_options
from vaenas.documents import LARGEST_YAML, regular_file
from vaenas.errors import UserError
from vaenas.ranges import readable
from vaenas.runs.config import ConstraintSettings
from vaenas.runs.settings import Configuration, make

if TYPE_CHECKING:
    from torch import Tensor

    from vaenas.runs.search_run import SearchRun

Finished = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished search.")]


class Budget(Configuration):
    """What is chosen must keep."""

    constraints: ConstraintSettings = ConstraintSettings()


def rank(
    run: Finished,
    codes: Annotated[list[str] | None, typer.Argument(metavar="[CODE]...", help="Architectures of its space.")] = None,
    file: Annotated[Path | None, typer.Option("--codes", help="File with a code on each line.")] = None,
    as_json: Json = False,
    space_file: SpaceFile = None,
) -> None:
    """Rank architectures of your own by a finished search: its supernet, its surrogate, training-free measures."""
    codes = [*(codes or []), *(_lines(file) if file else [])]
    if not codes:
        raise UserError("give architectures' codes, or a file of them with --codes")
    search = _finished(run, space_file)
    population = search.space.decode(codes)
    for code, valid in zip(codes, search.space.is_valid(population).tolist(), strict=True):
        if not valid:
            raise UserError(f"{code}: not valid in space {search.config.space}; leave it out")
    _print(search, population, as_json)


@with_options(
    setting_options(Budget, {"Budget": ("constraints.max_flops", "constraints.max_params", "constraints.max_latency")})
)
def choose(
    run: Finished,
    number: Annotated[int, typer.Option("-n", "--number", min=1, max=1000, help="How many, the best first.")] = 5,
    as_json: Json = False,
    space_file: SpaceFile = None,
    **options: Any,
) -> None:
    """Choose architectures for another budget from a finished search, without searching again."""
    from vaenas.runs import finished

    budget = make(Budget, given(options)).constraints
    search = _finished(run, space_file)
    _print(search, finished.choose(search, budget, number), as_json)


def _finished(run: Path, space_file: Path | None) -> "SearchRun":
    from vaenas.commands.architecture import result_of
    from vaenas.runs.config import SearchConfig
    from vaenas.runs.directory import RunDirectory
    from vaenas.runs.search_run import SearchRun

    if not run.is_dir() or result_of(str(run), space_file) is None:
        raise UserError(f"{run}: there is no such folder; give that of a finished search")
    return SearchRun(make(SearchConfig, {}, run / "config.yaml"), RunDirectory.open(run, "search"))


def _print(search: "SearchRun", population: "Tensor", as_json: bool) -> None:
    """What is known of each, the highest predicted score first."""
    from rich.console import Console
    from rich.table import Column, Table

    from vaenas.runs import finished

    codes = search.space.encode(population)
    found = {name: values.tolist() for name, values in finished.rank(search, population).items()}
    rows = [dict(zip(("code", *found), row, strict=True)) for row in zip(codes, *found.values(), strict=True)]
    rows.sort(key=lambda row: row.get("predicted_score", row["score"]), reverse=True)
    if as_json:
        print(json.dumps(rows))
        return
    costs = {"flops": "multiply-adds", "params": "parameters"}
    table = Table(Column("architecture", overflow="fold"), *(costs.get(name, name.replace("_", " ")) for name in found))
    for row in rows:
        table.add_row(row["code"], *(readable(row[k]) if k in costs else f"{row[k]:.4g}" for k in found))
    Console(markup=False).print(table)


def _lines(file: Path) -> list[str]:
    with regular_file(file) as content:
        text = content.read(LARGEST_YAML + 1)
    if len(text) > LARGEST_YAML:
        raise UserError(f"--codes {file}: more than {LARGEST_YAML} bytes; split it")
    try:
        return text.decode().split()
    except UnicodeDecodeError as error:
        raise UserError(f"--codes {file}: not text ({error}); give a file with a code on each line") from None
