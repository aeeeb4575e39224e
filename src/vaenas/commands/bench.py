"""`vaenas bench`: commands on benchmarks of separately trained networks."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from vaenas.commands.options import Force
from vaenas.errors import UserError
from vaenas.files import refuse_to_replace

app = typer.Typer(help="Tables of separately trained networks: the truth to measure samplers by.")
Workers = Annotated[int | None, typer.Option(help="Processes [one a core].")]


@app.command("import")
def import_file(
    file: Annotated[
        Path, typer.Argument(help="NAS-Bench-101 (.tfrecord, .parquet), -201 or your own (.csv), -Macro (.json).")
    ],
    output: Annotated[Path, typer.Option(help="The table to write; an earlier one of the same file is replaced.")],
    dataset: Annotated[
        str | None, typer.Option(help="Of NAS-Bench-201: cifar10, cifar100, imagenet16-120 [cifar10]")
    ] = None,
    slots: Annotated[str | None, typer.Option(help="Your own CSV: its columns of choices, as a,b,c.")] = None,
    score: Annotated[str | None, typer.Option(help="Your own CSV: the column to search by, higher is better.")] = None,
    test: Annotated[str | None, typer.Option(help="Your own CSV: the column to report by.")] = None,
    force: Force = False,
) -> None:
    """Make a table from FILE: one file that opens at once and answers whole populations.

    In your own CSV each line is one evaluation; lines that agree in all slots are further runs. Scores from 0 to 1 are
    kept, scores from 0 to 100 taken as percent, any others scaled to [0, 1].
    """
    from vaenas.bench.import_table import import_table
    from vaenas.evaluation.tabular import TabularBenchmark

    with suppress(UserError):  # a table of the same file may be made anew
        force |= TabularBenchmark.open(output).source == file.name
    refuse_to_replace(output, "--output", force)
    columns = None if slots is None else [name.strip() for name in slots.split(",")]
    table = import_table(file, dataset=dataset, slots=columns, score=score, test=test)
    table.save(output)
    epochs = ", ".join(map(str, table.budgets)) if table.budgets != (0,) else "not stated"
    units = f"{table.offset:g} to {table.offset + table.scale:g}" if table.offset else "percent"
    measured = table.measured + (", and test" if table.test_budgets else "")
    measured += f" ({units} in the file)" if table.offset or table.scale == 100 else ""
    print(
        f"{table.space.name}: {len(table):,} architectures, {len(table.labelled()):,} labelled; epochs: {epochs}; "
        f"runs: {table.runs}; {measured}; written to {output}"
    )


def _refuse_others(output: Path, finished: str, *results: str) -> None:
    """Raises `UserError` if the folder holds results without the file of finished pieces that ours stand beside."""
    there = [name for name in results if (output / name).exists() and not (output / finished).exists()]
    if there:
        raise UserError(f"--output {output}: {there[0]} is there already, without {finished}: choose another folder")


@app.command()
def curves(
    table: Annotated[Path, typer.Option(help="A table made by `vaenas bench import`.")],
    output: Annotated[
        Path, typer.Option(help="Folder of curves.json, curves.png and runs.jsonl; started again, it goes on.")
    ],
    methods: Annotated[str, typer.Option(help="Comma-separated; see below.")] = (
        "vae,vae_paper,random,evolution,local,tpe,categorical"
    ),
    queries: Annotated[int, typer.Option(help="Labels per run, all counted.")] = 200,
    seeds: Annotated[int, typer.Option(help="Runs of each method.")] = 100,
    workers: Workers = None,
) -> None:
    """Regret over queries, with 95 % bands over seeds.

    Methods: vae (recommended: the VAE's draws, scored by a predictor), vae_alone, vae_paper (the paper's sampler),
    random, evolution (regularized), local, tpe (Optuna's), categorical (cross-entropy method); for the ablation
    vae_no_latent, vae_no_neighbours, vae_uniform_proposals.
    """
    from vaenas.bench.curves import run_curves

    _refuse_others(output, "runs.jsonl", "curves.json", "curves.png")
    wanted = [name.strip() for name in methods.split(",") if name.strip()]
    runs = run_curves(table, wanted, queries, seeds, output, workers)
    for i, (method, seed, value) in enumerate(runs, start=1):
        print(f"{i}: {method} seed {seed}: {value:.5f}", flush=True)
    print(f"written to {output / 'curves.json'} and {output / 'curves.png'}")


@app.command()
def table4(
    table: Annotated[Path, typer.Option(help="NAS-Bench-101, made by `vaenas bench import`.")],
    output: Annotated[
        Path, typer.Option(help="Folder of table4.json, fig2.png, trials.jsonl; started again, it goes on.")
    ],
    samplers: Annotated[int, typer.Option(help="Trained samplers per row.")] = 10,
    draws: Annotated[int, typer.Option(help="Draws of each that count (labelled cells).")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the first sampler.")] = 0,
    workers: Workers = None,
) -> None:
    """Table 4 without weight sharing, and Fig. 2: the best of 10 to 300 draws of samplers that learned 6,000 labels."""
    from vaenas.bench.table4 import run_table4

    _refuse_others(output, "trials.jsonl", "table4.json", "fig2.png")
    for i, (row, noise, number) in enumerate(run_table4(table, samplers, draws, seed, output, workers), start=1):
        print(f"{i}: {row}, noise {100 * noise:g} %, seed {number}", flush=True)
    print(f"written to {output / 'table4.json'} and {output / 'fig2.png'}")
