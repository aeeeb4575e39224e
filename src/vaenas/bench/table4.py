"""Table 4 without weight sharing, and Fig. 2: what a sampler learns from 6,000 labelled cells (Sec. 5.3)."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, FiniteFloat, model_validator
from torch import Generator, Tensor

from vaenas.bench.finished import Finished
from vaenas.bench.pool import run_jobs
from vaenas.bench.task import BEST_OF, Task, best_of, gap_closed
from vaenas.blackbox.guided import GuidedSampler
from vaenas.errors import UserError
from vaenas.evaluation.tabular import TabularBenchmark
from vaenas.files import write_atomically
from vaenas.samplers.categorical import CategoricalSampler, CategoricalSettings
from vaenas.samplers.sampler import LearnedSampler, Sampler
from vaenas.samplers.uniform import UniformSampler
from vaenas.samplers.vae import PAPER, RECOMMENDED, VAESampler
from vaenas.search.evolution import Evolution, EvolutionInputs, evolve
from vaenas.spaces.cells import is_full
from vaenas.spaces.space import Population, Scores, SearchSpace

LABELS, KEPT = 6000, 0.25  # "6000 trained architectures are sampled and the top-1500 models form the training set"
NOISES = (0.0, 0.001, 0.005)
EVOLUTION = EvolutionInputs(population=50, generations=6)  # 300 cells, as many as the last column draws
BATCH = 4000
MOST = 2_000_000  # raw draws before a sampler that hardly ever meets a labelled cell is given up
SHOWN = 5000  # draws in Fig. 2

# One fit from nothing, so more iterations than an update within a search; for paper and recommended alike.
FIT = {"keep_ratio": KEPT, "iterations": 400, "batch_size": 128, "hidden": 64, "learning_rate": 5e-3}


def _vae(settings: Any) -> Callable[[SearchSpace, Generator], LearnedSampler]:
    return lambda space, rng: VAESampler(space, rng, settings)


def _categorical(space: SearchSpace, rng: Generator) -> LearnedSampler:
    return CategoricalSampler(space, CategoricalSettings(keep_ratio=KEPT, smoothing=1.0))


# row: (the learned sampler, whether a predictor guides it)
ROWS: dict[str, tuple[Callable[[SearchSpace, Generator], LearnedSampler], bool]] = {
    "categorical": (_categorical, False),
    "vae_paper": (_vae(replace(PAPER, **FIT)), False),
    "vae": (_vae(replace(RECOMMENDED, **FIT)), True),
    # what is it that helps: the VAE's settings alone, and the predictor with another sampler
    "vae_unguided": (_vae(replace(RECOMMENDED, **FIT)), False),
    "categorical_guided": (_categorical, True),
}
RANDOM = "random"


def draw(task: Task, sampler: Sampler | GuidedSampler, n: int, rng: Generator) -> dict[str, Any]:
    """The truth of n draws that count, and what was drawn for them.

    Draws are independent, so it does not matter that the table is asked before the predictor, which costs more.
    """
    inner, guide = (sampler.sampler, sampler.is_feasible) if isinstance(sampler, GuidedSampler) else (sampler, None)
    kept: list[Tensor] = []
    tried = full = found = 0
    while found < n:
        if tried >= MOST:
            raise UserError(f"of {tried} draws only {found} are labelled cells; {n} are needed: lower --draws")
        drawn = inner.sample(BATCH, rng)
        tried += len(drawn)
        full += int(is_full(drawn).sum())
        good = drawn if task.is_feasible is None else drawn[task.is_feasible(drawn)]
        kept.append(good if guide is None else good[guide(good)])
        found += len(kept[-1])
    population = torch.cat(kept)[:n]
    accuracies = task.truth(population)
    return {
        "population": population,
        "best_of": {str(k): best_of(accuracies, k) for k in BEST_OF if k <= n},
        "accuracies": accuracies[:SHOWN],
        "seven_vertices": full / tried,  # share of the raw draws
        "distinct": len(task.table.space.keys(population).unique()) / n,
    }


def evolution(task: Task, first: Population, rng: Generator) -> float:
    """The truth of the best cell after evolution from `first` by what is observed."""
    state = Evolution.start(first)

    def evaluate(population: Population) -> Scores:
        return task.observe(population, rng)

    def is_feasible(population: Population) -> Tensor:
        return (
            torch.ones(len(population), dtype=torch.bool) if task.is_feasible is None else task.is_feasible(population)
        )

    for _ in evolve(state, task.table.space, EVOLUTION, evaluate, is_feasible, rng):
        pass
    return float(task.truth(state.evaluated.best(1)))


def trial(task: Task, row: str, noise: float, seed: int, draws: int) -> dict[str, Any]:
    """One trained sampler: labels, fit, draws, evolution from its draws. The same labels for every row of a seed."""
    rng, space = Generator().manual_seed(seed), task.table.space
    chosen = task.population[torch.randperm(len(task.population), generator=rng)[:LABELS]]
    labels = task.table.validation(chosen)
    labels = labels + noise * torch.randn(len(labels), generator=rng)
    rng = Generator().manual_seed(1_000_000 + seed)
    began, stats, sampler = time.monotonic(), None, UniformSampler(space)
    if row != RANDOM:
        make, guided = ROWS[row]
        learned = make(space, rng)
        sampler = GuidedSampler(learned) if guided else learned
        stats = sampler.update(chosen, labels, rng)
    fitted = time.monotonic() - began
    found = draw(task, sampler, draws, rng)
    first = found.pop("population")[-min(EVOLUTION.population, draws) :]
    return {
        **found,
        "accuracies": found["accuracies"].tolist() if seed == 0 else [],
        "evolution": evolution(task, first, rng),
        "kl": stats and stats.kl,
        "fit_seconds": fitted,
    }


class Result(BaseModel, extra="forbid"):
    """What `trial` gives."""

    best_of: dict[str, FiniteFloat]
    accuracies: list[FiniteFloat]
    seven_vertices: FiniteFloat
    distinct: FiniteFloat
    evolution: FiniteFloat
    kl: FiniteFloat | None
    fit_seconds: FiniteFloat

    @model_validator(mode="after")
    def _is_whole(self, info: Any) -> "Result":  # a ValidationInfo, which beartype cannot check
        if info.context and list(self.best_of) != [str(k) for k in BEST_OF if k <= info.context["draws"]]:
            raise ValueError("not the best of as many draws")
        return self


class Trial(BaseModel, extra="forbid"):
    """A line of `trials.jsonl`."""

    job: tuple[str, float, int]  # row, noise, seed
    seconds: FiniteFloat  # of the whole run so far
    result: Result


@lru_cache(maxsize=1)
def _task(table: Path) -> Task:
    opened = TabularBenchmark.open(table)
    opened.expect("nasbench101")
    return Task(opened)


def _job(table: Path, row: str, noise: float, seed: int, draws: int) -> dict[str, Any]:
    return trial(_task(table), row, noise, seed, draws)


def run_table4(
    table: Path, samplers: int, draws: int, seed: int, output: Path, workers: int | None = None
) -> Iterator[tuple[str, float, int]]:
    """Runs what `output/trials.jsonl` does not hold yet; yields row, noise and seed; writes `table4.json` and figures.

    Raises:
        UserError: a table of another space, too few labels, or an output with other settings.
    """
    began = time.monotonic()
    for name, value, least in (("--samplers", samplers, 1), ("--draws", draws, BEST_OF[0]), ("--workers", workers, 1)):
        if value is not None and value < least:
            raise UserError(f"{name} {value}: at least {least} is needed")
    task = _task(table)
    if len(task.population) < LABELS:
        raise UserError(f"{table}: {len(task.population)} labelled cells; the protocol needs {LABELS}")
    jobs = [
        (row, noise, s)
        for s in range(seed, seed + samplers)
        for noise in NOISES
        for row in [RANDOM, *ROWS]
        if row != RANDOM or noise == 0.0  # knows no labels
    ]
    belongs_to = {"table": task.table.digest(), "draws": draws, "version": 2}
    with Finished(output / "trials.jsonl", belongs_to, Trial) as finished:
        done = {entry.job: entry.result.model_dump() for entry in finished.entries}
        before = finished.entries[-1].seconds if finished.entries else 0.0
        todo = [(table, *job, draws) for job in jobs if job not in done]
        for (_, row, noise, number, _), result in run_jobs(_job, todo, workers):
            job = row, noise, number
            finished.add(Trial(job=job, seconds=before + time.monotonic() - began, result=Result(**result)))
            done[job] = result
            yield job
    summary = summarise(task, {job: done[job] for job in jobs})
    summary |= {"table": task.table.source, "samplers": samplers, "draws": draws, "first_seed": seed}
    summary["seconds"] = round(before + time.monotonic() - began, 1)
    write_atomically(output / "table4.json", (json.dumps(summary, indent=1) + "\n").encode())
    from vaenas.bench.figures import draw_fig2

    shown = {(row, noise): result["accuracies"] for (row, noise, s), result in done.items() if s == 0}
    if shown:
        draw_fig2(shown, summary, output / "fig2.png")


def _interval(values: list[float]) -> dict[str, float]:
    """Mean and half of the 95 % interval (Student's t)."""
    x = torch.tensor(values, dtype=torch.float64)
    if len(x) < 2:
        return {"mean": float(x.mean()), "ci95": 0.0}
    # 97.5 % quantiles of Student's t for 1 to 9 degrees of freedom, then close enough to their limit
    quantiles = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
    quantile = quantiles[len(x) - 2] if len(x) <= 10 else 2.26 if len(x) < 12 else 2.1 if len(x) < 30 else 1.96
    return {"mean": float(x.mean()), "ci95": quantile * float(x.std()) / len(x) ** 0.5}


def summarise(task: Task, results: dict[tuple[str, float, int], dict[str, Any]]) -> dict[str, Any]:
    """Rows, differences to the categorical baseline, and the share of the gap to the best cell that is closed."""
    rows: dict[str, Any] = {}
    closed: dict[str, Any] = {}
    ahead: dict[str, Any] = {}

    def values(row: str, noise: float, pick: Callable[[dict[str, Any]], float]) -> list[float]:
        return [pick(r) for (name, level, _), r in sorted(results.items()) if name == row and level == noise]

    columns = {k: (lambda r, k=k: r["best_of"][k]) for k in next(iter(results.values()))["best_of"]}
    columns |= {
        name: (lambda r, name=name: r[name]) for name in ("evolution", "seven_vertices", "distinct", "fit_seconds")
    }
    for row in [RANDOM, *ROWS]:
        for noise in (0.0,) if row == RANDOM else NOISES:
            entry = {name: _interval(values(row, noise, pick)) for name, pick in columns.items()}
            level = f"noise_{100 * noise:g}"
            rows.setdefault(row, {})[level] = entry
            if row == RANDOM:
                continue
            uniform = rows[RANDOM]["noise_0"]
            best = {k: v["mean"] for k, v in entry.items() if k.isdigit()}
            closed.setdefault(row, {})[level] = {
                k: gap_closed(v, uniform[k]["mean"], task.optimum) for k, v in best.items()
            }
            if row != "categorical":
                ahead.setdefault(row, {})[level] = {
                    k: _interval(
                        [
                            a - b
                            for a, b in zip(
                                values(row, noise, columns[k]), values("categorical", noise, columns[k]), strict=True
                            )
                        ]
                    )
                    for k in best
                }
    return {
        "rows": rows,
        "gap_closed": closed,
        "ahead_of_categorical": ahead,
        "optimum": task.optimum,
        "reported": task.reported,
    }
