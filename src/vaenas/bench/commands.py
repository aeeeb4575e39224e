"""`vaenas bench`: commands on benchmarks of separately trained networks."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Tables of separately trained networks: the truth to measure samplers by.")


@app.command("import")
def import_file(
    file: Annotated[
        Path, typer.Argument(help="NAS-Bench-101 (.tfrecord, .parquet), -201 or your own (.csv), -Macro (.json).")
    ],
    output: Annotated[Path, typer.Option(help="The table to write; a file that is there already is replaced.")],
    dataset: Annotated[
        str | None, typer.Option(help="Of NAS-Bench-201: cifar10, cifar100, imagenet16-120 [cifar10]")
    ] = None,
    slots: Annotated[str | None, typer.Option(help="Your own CSV: its columns of choices, as a,b,c.")] = None,
    score: Annotated[str | None, typer.Option(help="Your own CSV: the column to search by, higher is better.")] = None,
    test: Annotated[str | None, typer.Option(help="Your own CSV: the column to report by.")] = None,
) -> None:
    """Make a table from FILE: one file that opens at once and answers whole populations.

    In your own CSV each line is one evaluation; lines that agree in all slots are further runs. Scores from 0 to 1 are
    kept, scores from 0 to 100 taken as percent, any others scaled to [0, 1].
    """
    from vaenas.bench.import_table import import_table

    columns = None if slots is None else [name.strip() for name in slots.split(",")]
    table = import_table(file, dataset=dataset, slots=columns, score=score, test=test)
    table.save(output)
    epochs = ", ".join(map(str, table.budgets)) if table.budgets != (0,) else "not stated"
    measured = table.measured + (", and test" if table.test_budgets else "") + _units(table.offset, table.scale)
    print(
        f"{table.space.name}: {len(table):,} architectures, {len(table.labelled()):,} labelled; epochs: {epochs}; "
        f"runs: {table.runs}; {measured}; written to {output}"
    )


def _units(offset: float, scale: float) -> str:
    if offset == 0.0:
        return " (percent in the file)" if scale == 100.0 else ""
    return f" ({offset:g} to {offset + scale:g} in the file)"
