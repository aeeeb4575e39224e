"""Regret over labels: what a search has found after so many queries, with every label counted."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

from pydantic import BaseModel, FiniteFloat, model_validator
from torch import Generator

from vaenas.bench.finished import Finished, check_least, write_summary
from vaenas.bench.task import Task, interval, open_task
from vaenas.blackbox.baselines import TPE, LocalSearch, RandomSearch, RegularizedEvolution
from vaenas.blackbox.vae_search import ALONE, PAPER_ALONE, BlackBoxSettings, VAESearch
from vaenas.errors import UserError
from vaenas.samplers.categorical import CategoricalSampler
from vaenas.samplers.sampler import LearnedSampler
from vaenas.spaces.space import SearchSpace

QUESTION = 5  # labels per question for searches that learn a model; the others ask for one at a time
SPACING = 10  # labels between two points of a curve


def _vae(
    settings: BlackBoxSettings, model: Callable[[SearchSpace], LearnedSampler | None] = lambda space: None
) -> Callable[[Task, Generator], RandomSearch]:
    return lambda task, rng: VAESearch(task.space, rng, replace(settings, repeats=task.noisy), model(task.space))


# name: (labels per question, the search)
METHODS: dict[str, tuple[int, Callable[[Task, Generator], RandomSearch]]] = {
    "vae": (QUESTION, _vae(BlackBoxSettings())),
    "vae_alone": (QUESTION, _vae(ALONE)),
    "vae_paper": (QUESTION, _vae(PAPER_ALONE)),
    "random": (QUESTION, lambda task, rng: RandomSearch(task.space, rng, task.noisy)),
    "evolution": (1, lambda task, rng: RegularizedEvolution(task.space, rng, task.noisy)),
    "local": (1, lambda task, rng: LocalSearch(task.space, rng, task.noisy)),
    "tpe": (1, lambda task, rng: TPE(task.space, rng, task.noisy, task.population)),
    "categorical": (QUESTION, _vae(ALONE, CategoricalSampler)),
    # the ablation of `vae`
    "vae_no_latent": (QUESTION, _vae(BlackBoxSettings(latent=False))),
    "vae_no_neighbours": (QUESTION, _vae(BlackBoxSettings(neighbours=False))),
    "vae_uniform_proposals": (QUESTION, _vae(BlackBoxSettings(epsilon=0.0))),
}


def points(queries: int) -> list[int]:
    """After how many labels a curve has a point."""
    return sorted({*range(SPACING, queries + 1, SPACING), queries, min(queries, 192)})


def search(task: Task, method: str, queries: int, seed: int) -> dict[int, float]:
    """One run: the truth of what the search would return after each of `points(queries)` labels."""
    size, make = METHODS[method]
    rng = Generator().manual_seed(seed)
    found = make(task, rng)
    curve: dict[int, float] = {}
    for stop in points(queries):
        while (left := stop - len(found.scores)) > 0:
            population = found.ask(min(size, left), task.is_feasible)
            found.tell(population, task.observe(population, rng))
        curve[stop] = float(task.truth(found.best()))
    return curve


class Run(BaseModel, extra="forbid"):
    """A line of `runs.jsonl`."""

    method: str
    seed: int
    curve: dict[int, FiniteFloat]

    @model_validator(mode="after")
    def _is_whole(self, info: Any) -> "Run":  # a ValidationInfo, which beartype cannot check
        if info.context and list(self.curve) != points(info.context["queries"]):
            raise ValueError("not the points of a whole curve")
        return self


def _job(table: Path, queries: int, method: str, seed: int) -> Run:
    return Run(method=method, seed=seed, curve=search(open_task(table), method, queries, seed))


def run_curves(
    table: Path, methods: list[str], queries: int, seeds: int, output: Path, workers: int | None = None
) -> Iterator[tuple[str, int, float]]:
    """Runs what `output` does not hold yet, in `workers` processes; yields method, seed and what it found at the end.

    Every finished run is a line of `output/runs.jsonl`, so that a run that was stopped goes on. Ends with
    `curves.json` and `curves.png`.

    Raises:
        UserError: an unknown method, a table too small, or an output of another table or number of queries.
    """
    unknown = [m for m in methods if m not in METHODS]
    if unknown or not methods:
        raise UserError(f"--methods {','.join(unknown) or '(none)'}: unknown; choose from {', '.join(METHODS)}")
    check_least({"--queries": queries, "--seeds": seeds, "--workers": workers})
    task = open_task(table)
    if not task.noisy and queries > len(task.population):
        raise UserError(
            f"--queries {queries}: {table} has only {len(task.population)} architectures to ask for; lower --queries"
        )
    if "tpe" in methods:
        METHODS["tpe"][1](task, Generator())  # whether Optuna is there
    wanted = [(method, seed) for seed in range(seeds) for method in dict.fromkeys(methods)]
    belongs_to = {"table": task.table.digest(), "queries": queries, "version": 3}
    with Finished(output / "runs.jsonl", belongs_to, Run, attrgetter("method", "seed")) as finished:
        for run in finished.run(partial(_job, table, queries), wanted, workers):
            yield run.method, run.seed, task.shown(run.curve[queries])
    found = {m: [finished.entries[m, s].curve for s in range(seeds)] for m in dict.fromkeys(methods)}
    summary = summarise(task, found, seeds)
    write_summary(output / "curves.json", summary)
    from vaenas.bench.figures import draw_curves

    draw_curves(summary, output / "curves.png")


def summarise(task: Task, runs: dict[str, list[dict[int, float]]], seeds: int) -> dict[str, Any]:
    """Mean and 95 % interval (normal quantile) over seeds, as `task.shown`."""
    return {
        "methods": {
            method: {str(q): interval([task.shown(curve[q]) for curve in curves], 1.96) for q in curves[0]}
            for method, curves in runs.items()
        },
        "optimum": task.shown(task.optimum),
        "seeds": seeds,
        "table": task.table.source,
        "reported": task.reported,
        "observed": "one random run per label" if task.noisy else task.table.measured,
    }
