"""Table 4 without weight sharing, and Fig. 2: what a sampler learns from 6,000 labelled cells (Sec. 5.3)."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, FiniteFloat, model_validator
from torch import Generator, Tensor

from vaenas.bench.finished import Finished, check_least, write_summary
from vaenas.bench.task import BEST_OF, Task, best_of, interval, open_task
from vaenas.blackbox.predictor import Guided
from vaenas.errors import UserError
from vaenas.samplers.categorical import CategoricalSampler, CategoricalSettings
from vaenas.samplers.sampler import Sampler
from vaenas.samplers.uniform import UniformSampler
from vaenas.samplers.vae import PAPER, RECOMMENDED, VAESampler, VAESettings
from vaenas.search.evolution import Evolution
from vaenas.search.settings import EvolutionSettings
from vaenas.spaces.space import Population, SearchSpace

LABELS, KEPT = 6000, 0.25  # "6000 trained architectures are sampled and the top-1500 models form the training set"
NOISES = (0.0, 0.001, 0.005)
EVOLUTION = EvolutionSettings(population=50, generations=6, top_k=10)  # 300 cells, as many as the last column draws
DRAWN_AT_ONCE = 4000
MOST_DRAWS = 2_000_000  # before a sampler that hardly ever meets a labelled cell is given up
FIG2_DRAWS = 5000

# The one update is from nothing, so it has more iterations than one within a search; for paper and recommended alike.
ONE_UPDATE = {"keep_ratio": KEPT, "iterations": 400, "batch_size": 128, "hidden": 64, "learning_rate": 5e-3}


def _vae(settings: VAESettings, space: SearchSpace, rng: Generator) -> VAESampler:
    return VAESampler(space, rng, replace(settings, **ONE_UPDATE))


def _categorical(space: SearchSpace) -> CategoricalSampler:
    return CategoricalSampler(space, CategoricalSettings(keep_ratio=KEPT, smoothing=1.0))


RANDOM = "random"
ROWS: dict[str, Callable[[SearchSpace, Generator], Any]] = {
    RANDOM: lambda space, rng: UniformSampler(space),
    "categorical": lambda space, rng: _categorical(space),
    "vae_paper": lambda space, rng: _vae(PAPER, space, rng),
    "vae": lambda space, rng: Guided(_vae(RECOMMENDED, space, rng)),
    # what is it that helps: the VAE's settings alone, and the predictor with another sampler
    "vae_unguided": lambda space, rng: _vae(RECOMMENDED, space, rng),
    "categorical_guided": lambda space, rng: Guided(_categorical(space)),
}


def draw(task: Task, sampler: Sampler | Guided, n: int, rng: Generator) -> tuple[Population, float]:
    """n draws that count, and the share of full cells in all that were drawn.

    Draws are independent, so it does not matter that the table is asked before the predictor, which costs more.
    """
    inner, guide = (sampler.sampler, sampler.is_feasible) if isinstance(sampler, Guided) else (sampler, None)
    kept: list[Tensor] = []
    tried = full = found = 0
    while found < n:
        if tried >= MOST_DRAWS:
            raise UserError(f"of {tried} draws only {found} are labelled cells; {n} are needed: lower --draws")
        drawn = inner.sample(DRAWN_AT_ONCE, rng)
        tried, full = tried + len(drawn), full + int(task.table.space.is_full(drawn).sum())
        good = drawn[task.counts(drawn)]
        kept.append(good if guide is None else good[guide(good)])
        found += len(kept[-1])
    return torch.cat(kept)[:n], full / tried


class Trial(BaseModel, extra="forbid"):
    """One trained sampler: a line of `trials.jsonl`."""

    row: str
    noise: float
    seed: int
    seconds: FiniteFloat  # of one core
    learning_seconds: FiniteFloat
    best_of: dict[str, FiniteFloat]  # expected highest truth of so many draws
    evolution: FiniteFloat  # truth of the best cell that evolution from the draws finds, by what is observed
    seven_vertices: FiniteFloat  # share of the raw draws
    distinct: FiniteFloat  # share of the draws that count
    kl: FiniteFloat | None
    accuracies: list[FiniteFloat]  # for Fig. 2, of the first seed

    @model_validator(mode="after")
    def _is_whole(self, info: Any) -> "Trial":  # a ValidationInfo, which beartype cannot check
        if info.context and list(self.best_of) != [str(k) for k in BEST_OF if k <= info.context["draws"]]:
            raise ValueError("not the best of as many draws")
        return self


def trial(task: Task, row: str, noise: float, seed: int, draws: int) -> Trial:
    """Labels, one update, draws, evolution from its draws. The same labels for every row of a seed."""
    began = time.monotonic()
    rng, space = Generator().manual_seed(seed), task.table.space
    chosen = task.population[torch.randperm(len(task.population), generator=rng)[:LABELS]]
    labels = task.table.validation(chosen)
    labels = labels + noise * torch.randn(len(labels), generator=rng)
    rng = Generator().manual_seed(1_000_000 + seed)
    learning = time.monotonic()
    sampler = ROWS[row](space, rng)
    stats = None if row == RANDOM else sampler.update(chosen, labels, rng)
    learned = time.monotonic()
    drawn, seven_vertices = draw(task, sampler, draws, rng)
    accuracies = task.truth(drawn)
    first = drawn[-EVOLUTION.population :]
    search = Evolution(space, EVOLUTION, lambda population: task.observe(population, rng), task.counts, rng, first)
    for _ in search.run():
        pass
    return Trial(
        row=row,
        noise=noise,
        seed=seed,
        seconds=time.monotonic() - began,
        learning_seconds=learned - learning,
        best_of={str(k): best_of(accuracies, k) for k in BEST_OF if k <= draws},
        evolution=float(task.truth(search.evaluated.best(1))),
        seven_vertices=seven_vertices,
        distinct=len(space.keys(drawn).unique()) / draws,
        kl=stats and stats.kl,
        accuracies=accuracies[:FIG2_DRAWS].tolist() if seed == 0 else [],
    )


def _job(table: Path, draws: int, row: str, noise: float, seed: int) -> Trial:
    return trial(open_task(table, "nasbench101"), row, noise, seed, draws)


def run_table4(
    table: Path, samplers: int, draws: int, seed: int, output: Path, workers: int | None = None
) -> Iterator[tuple[str, float, int]]:
    """Runs what `output/trials.jsonl` does not hold yet; yields row, noise and seed; writes `table4.json` and figures.

    Raises:
        UserError: a table of another space, too few labels, or an output with other settings.
    """
    check_least({"--samplers": samplers, "--workers": workers})
    check_least({"--draws": draws}, BEST_OF[0])
    task = open_task(table, "nasbench101")
    if len(task.population) < LABELS:
        raise UserError(f"{table}: {len(task.population)} labelled cells; the protocol needs {LABELS}")
    wanted = [
        (row, noise, s)
        for s in range(seed, seed + samplers)
        for noise in NOISES
        for row in ROWS
        if row != RANDOM or noise == 0.0  # knows no labels
    ]
    belongs_to = {"table": task.table.digest(), "draws": draws, "version": 3}
    with Finished(output / "trials.jsonl", belongs_to, Trial, attrgetter("row", "noise", "seed")) as finished:
        for t in finished.run(partial(_job, table, draws), wanted, workers):
            yield t.row, t.noise, t.seed
    trials = [finished.entries[key] for key in wanted]
    summary = summarise(task, trials) | {
        "table": task.table.source, "samplers": samplers, "draws": draws, "first_seed": seed,
        "seconds": round(sum(t.seconds for t in trials), 1),
    }  # fmt: skip
    write_summary(output / "table4.json", summary)
    if shown := {(t.row, t.noise): t.accuracies for t in trials if t.accuracies}:
        from vaenas.bench.figures import draw_fig2

        draw_fig2(shown, summary, output / "fig2.png")


def summarise(task: Task, trials: list[Trial]) -> dict[str, Any]:
    """Rows, differences to the categorical baseline, and the share of the gap to the best cell that is closed."""
    others = ("evolution", "seven_vertices", "distinct", "learning_seconds")
    cells: dict[tuple[str, float], list[dict[str, float]]] = {}
    for t in sorted(trials, key=lambda t: (list(ROWS).index(t.row), t.noise, t.seed)):
        cells.setdefault((t.row, t.noise), []).append(t.best_of | {name: getattr(t, name) for name in others})
    rows, closed, ahead = {}, {}, {}
    for (row, noise), figures in cells.items():
        level, draws = f"noise_{100 * noise:g}", trials[0].best_of
        entry = {name: interval([f[name] for f in figures]) for name in figures[0]}
        rows.setdefault(row, {})[level] = entry
        if row == RANDOM:
            continue
        uniform = {k: rows[RANDOM]["noise_0"][k]["mean"] for k in draws}
        share = {k: (entry[k]["mean"] - uniform[k]) / (task.optimum - uniform[k]) for k in draws}
        closed.setdefault(row, {})[level] = share
        if row != "categorical":
            pairs = list(zip(figures, cells["categorical", noise], strict=True))
            ahead.setdefault(row, {})[level] = {k: interval([a[k] - b[k] for a, b in pairs]) for k in draws}
    return {
        "rows": rows,
        "gap_closed": closed,
        "ahead_of_categorical": ahead,
        "optimum": task.optimum,
        "reported": task.reported,
    }
