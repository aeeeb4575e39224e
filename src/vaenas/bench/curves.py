"""Regret over labels: what a search has found after so many queries, with every label counted."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from pydantic import BaseModel, FiniteFloat, model_validator
from torch import Generator

from vaenas.bench.finished import Finished
from vaenas.bench.pool import run_jobs
from vaenas.bench.task import Task
from vaenas.blackbox.baselines import TPE, LocalSearch, RandomSearch, RegularizedEvolution
from vaenas.blackbox.vae_search import ALONE, PAPER_ALONE, AskTell, BlackBoxSettings, VAESearch
from vaenas.errors import UserError
from vaenas.evaluation.tabular import TabularBenchmark
from vaenas.files import write_atomically
from vaenas.samplers.categorical import CategoricalSampler, CategoricalSettings
from vaenas.spaces.space import Population

ROUND = 5  # labels per question for searches that learn a model; the others ask for one at a time
EVERY = 10  # labels between two points of a curve


@runtime_checkable
class _Search(AskTell, Protocol):
    def best(self) -> Population: ...


def _vae(settings: BlackBoxSettings) -> Callable[[Task, Generator], _Search]:
    return lambda task, rng: VAESearch(task.space, rng, replace(settings, repeats=task.noisy))


def _categorical(task: Task, rng: Generator) -> _Search:
    sampler = CategoricalSampler(task.space, CategoricalSettings(keep_ratio=0.25))
    return VAESearch(task.space, rng, replace(ALONE, repeats=task.noisy), sampler)


# name: (labels per question, the search)
METHODS: dict[str, tuple[int, Callable[[Task, Generator], _Search]]] = {
    "vae": (ROUND, _vae(BlackBoxSettings())),
    "vae_alone": (ROUND, _vae(ALONE)),
    "vae_paper": (ROUND, _vae(PAPER_ALONE)),
    "random": (ROUND, lambda task, rng: RandomSearch(task.space, rng, task.noisy)),
    "evolution": (1, lambda task, rng: RegularizedEvolution(task.space, rng, task.noisy)),
    "local": (1, lambda task, rng: LocalSearch(task.space, rng, task.noisy)),
    "tpe": (1, lambda task, rng: TPE(task.space, rng, task.noisy, task.population)),
    "categorical": (ROUND, _categorical),
    # the ablation of `vae`
    "vae_no_latent": (ROUND, _vae(BlackBoxSettings(latent=False))),
    "vae_no_neighbours": (ROUND, _vae(BlackBoxSettings(neighbours=False))),
    "vae_uniform_proposals": (ROUND, _vae(BlackBoxSettings(epsilon=0.0))),
}


def points(queries: int) -> list[int]:
    """After how many labels a curve has a point."""
    return sorted({*range(EVERY, queries + 1, EVERY), queries, *(q for q in (192,) if q <= queries)})


def search(task: Task, method: str, queries: int, seed: int) -> dict[int, float]:
    """One run: the truth of what the search would return after each of `points(queries)` labels."""
    size, make = METHODS[method]
    rng = Generator().manual_seed(seed)
    found, stops, told = make(task, rng), points(queries), 0
    curve: dict[int, float] = {}
    for stop in stops:
        while told < stop:
            population = found.ask(min(size, stop - told), task.is_feasible)
            found.tell(population, task.observe(population, rng))
            told += len(population)
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


@lru_cache(maxsize=1)
def _task(table: Path) -> Task:
    return Task(TabularBenchmark.open(table))


def _job(table: Path, method: str, queries: int, seed: int) -> dict[int, float]:
    return search(_task(table), method, queries, seed)


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
    for name, value in (("--queries", queries), ("--seeds", seeds), ("--workers", workers)):
        if value is not None and value < 1:
            raise UserError(f"{name} {value}: at least 1 is needed")
    task = _task(table)
    if not task.noisy and queries > len(task.population):
        raise UserError(
            f"--queries {queries}: {table} has only {len(task.population)} architectures to ask for; lower --queries"
        )
    if "tpe" in methods:
        METHODS["tpe"][1](task, Generator())  # whether Optuna is there
    methods = list(dict.fromkeys(methods))
    belongs_to = {"table": task.table.digest(), "queries": queries, "version": 3}
    with Finished(output / "runs.jsonl", belongs_to, Run) as finished:
        done = {(run.method, run.seed): run.curve for run in finished.entries}
        offset, scale = units(task)
        todo = [(table, m, queries, s) for s in range(seeds) for m in methods if (m, s) not in done]
        for (_, method, _, seed), curve in run_jobs(_job, todo, workers):
            finished.add(Run(method=method, seed=seed, curve=curve))
            done[method, seed] = curve
            yield method, seed, offset + scale * curve[queries]
    summary = summarise(task, {m: [done[m, s] for s in range(seeds)] for m in methods}, seeds)
    write_atomically(output / "curves.json", (json.dumps(summary, indent=1) + "\n").encode())
    from vaenas.bench.figures import draw_curves

    draw_curves(summary, output / "curves.png")


def units(task: Task) -> tuple[float, float]:
    """Offset and scale of reported values: a user's own table in the units of its file, accuracies in [0, 1]."""
    return (task.table.offset, task.table.scale) if task.table.slots else (0.0, 1.0)


def summarise(task: Task, runs: dict[str, list[dict[int, float]]], seeds: int) -> dict[str, Any]:
    """Mean and 95 % interval over seeds; a user's own table in the units of its file, accuracies in [0, 1]."""
    offset, scale = units(task)

    def entry(values: list[float]) -> dict[str, float]:
        x = offset + scale * torch.tensor(values, dtype=torch.float64)
        spread = float(x.std()) if len(x) > 1 else math.nan
        ci95 = 1.96 * spread / len(x) ** 0.5
        return {"mean": float(x.mean()), "ci95": ci95 if math.isfinite(ci95) else 0.0}

    methods = {
        method: {str(q): entry([curve[q] for curve in curves]) for q in curves[0]} for method, curves in runs.items()
    }
    return {
        "methods": methods,
        "optimum": offset + scale * task.optimum,
        "seeds": seeds,
        "table": task.table.source,
        "reported": task.reported,
        "observed": "one random run per label" if task.noisy else task.table.measured,
    }
