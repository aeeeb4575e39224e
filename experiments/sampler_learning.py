"""How should a sampler learn from a supernet's scores? Simulated on supernets that stand still.

    python experiments/sampler_learning.py RUN [RUN ...]       of `vaenas search --table`, such as sampling_matters'

On the run's final supernet (`--measure` of 500 ranking images, each batch by its own statistics) Algorithm 1 is called
8 times on 64 draws of Γ (`--updates`, `--ranked`) with ε rising to its limit; it learns from the scores, from the
ridge surrogate to them, or from what the fit expects of 1,000 more draws, of Γ ("predicted"), of U ("uniform"), or, as
a search does, of Γ with ε = K, several times after each ranking ("2 rounds"). Printed and written to
results/sampler_learning/RUN.json: the true mean of the sampler's draws after each update, the expected best of 10, 50,
100, 300 draws at the end (of those that have a truth), and the share of different ones among 6,000; means over seeds.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Generator

from vaenas.bench.task import BEST_OF
from vaenas.evaluation.settings import SupernetMetric
from vaenas.evaluation.supernet import SupernetEvaluator
from vaenas.runs.config import SearchConfig
from vaenas.runs.directory import RunDirectory
from vaenas.runs.search_run import SearchRun
from vaenas.runs.settings import make
from vaenas.runs.truth import Truth
from vaenas.samplers.categorical import CategoricalSampler, CategoricalSettings
from vaenas.samplers.mixture import Mixture
from vaenas.samplers.sampler import LearnedSampler
from vaenas.samplers.uniform import UniformSampler
from vaenas.samplers.vae import PAPER, RECOMMENDED, VAESampler
from vaenas.search.evaluated_set import EvaluatedSet, score
from vaenas.search.search import PREDICTED
from vaenas.search.surrogate import RidgeSurrogate
from vaenas.spaces.space import Population, Scores, SearchSpace

RESULTS = Path(__file__).parent / "results" / "sampler_learning"
IMAGES = 500
SAMPLERS: dict[str, Callable[[SearchSpace, Generator, float], LearnedSampler]] = {
    "categorical": lambda space, rng, keep: CategoricalSampler(space, CategoricalSettings(keep)),
    "vae-paper": lambda space, rng, keep: VAESampler(space, rng, replace(PAPER, keep_ratio=keep)),
    "vae": lambda space, rng, keep: VAESampler(space, rng, replace(RECOMMENDED, keep_ratio=keep)),
}
# sampler, K, limit of ε, what it learns from: a number is of rounds
ROWS: list[tuple[str, float, float, str | int]] = [
    *(
        (name, keep, limit, source)
        for name, keep in (("categorical", 0.5), ("vae-paper", 0.5), ("vae", 0.25))
        for limit in (1.0, 0.5)
        for source in ("scores", "fit", "predicted")
    ),
    ("categorical", 0.25, 1.0, "predicted"),
    ("vae", 0.5, 0.5, "predicted"),
    ("vae", 0.5, 1.0, "predicted"),
    ("vae", 0.25, 0.25, "predicted"),
    ("vae", 0.1, 0.5, "uniform"),
    ("vae", 0.05, 0.5, "uniform"),
    ("categorical", 0.25, 0.25, "predicted"),
    *((name, 0.25, 0.25, rounds) for name in ("vae", "categorical") for rounds in (1, 2, 4)),
]


class Simulation:
    """One run's final supernet, and the scores that it has given so far."""

    def __init__(self, run: Path, ranking_metric: SupernetMetric) -> None:
        search = SearchRun(make(SearchConfig, {}, run / "config.yaml"), RunDirectory.open(run, "search"))
        evaluate = search.saved_scores.evaluate
        assert isinstance(evaluate, SupernetEvaluator)
        assert search.truth is not None
        images, labels = (torch.cat(part) for part in zip(*evaluate.ranking, strict=True))
        ranking = [(images[i : i + 250], labels[i : i + 250]) for i in range(0, min(IMAGES, len(labels)), 250)]
        self.evaluate = SupernetEvaluator(
            evaluate.network, [], ranking, evaluate.prepare, ranking_metric=ranking_metric
        )
        self.space, self.truth, self.evaluated = search.space, search.truth, EvaluatedSet(search.space.slots)

    def scores(self, population: Population) -> Scores:
        for _ in score(population, self.evaluate, "ranking", self.evaluated):
            pass
        return self.evaluated.lookup(population)

    def __call__(
        self, name: str, keep: float, limit: float, learns_from: str | int, seed: int, updates: int, ranked: int
    ) -> dict[str, Any]:
        rng, truth = Generator().manual_seed(seed), Truth(self.truth.task, seed)
        sampler, means = SAMPLERS[name](self.space, rng, keep), []
        gamma = Mixture(UniformSampler(self.space), sampler)
        for update in range(1, updates + 1):
            epsilon = limit * update / updates
            population, _ = gamma.sample(torch.full((ranked,), epsilon), rng)
            scores = self.scores(population)
            fit = RidgeSurrogate(self.space, population, scores)
            match learns_from:
                case "scores":
                    sampler.update(population, scores, rng)
                case "fit":
                    sampler.update(population, fit(population), rng)
                case "predicted" | "uniform":
                    more = torch.full((PREDICTED,), epsilon if learns_from == "predicted" else 0.0)
                    population = torch.cat([population, gamma.sample(more, rng)[0]])
                    sampler.update(population, fit(population), rng)
                case int(rounds):
                    for _ in range(rounds):
                        more = gamma.sample(torch.full((PREDICTED,), sampler.keep_ratio), rng)[0]
                        seen = torch.cat([population, more])
                        sampler.update(seen, fit(seen), rng)
                case _:
                    raise ValueError(learns_from)
            codes = truth.draws(sampler, update)
            means.append(truth.mean(codes)["mean"])
        drawn = sampler.sample(6000, rng)
        best = truth.best_of(sampler)
        return {
            "means": means,
            "best_of": [None] * len(BEST_OF) if best is None else list(best.values()),
            "distinct": len(self.space.keys(drawn).unique()) / len(drawn),
        }


def average(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--rows", type=int, nargs="+", help="numbers of rows (default: all)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=8, help="calls of Algorithm 1")
    parser.add_argument("--ranked", type=int, default=64, help="N_s")
    parser.add_argument("--measure", choices=get_args(SupernetMetric), default="likelihood")
    options = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    for run in options.runs:
        simulate, table = Simulation(run, options.measure), RESULTS / f"{run.name}.json"
        rows = json.loads(table.read_text())["rows"] if table.exists() else {}
        print(
            f"{run.name}\n| sampler, K, limit of ε, learns from | true mean after each update, % | best of | distinct |"
        )
        print("| --- | --- | --- | --- |")
        for place in range(len(ROWS)) if options.rows is None else options.rows:
            name, keep, limit, learns_from = ROWS[place]
            of_all = options.updates, options.ranked
            found = [simulate(name, keep, limit, learns_from, seed, *of_all) for seed in range(options.seeds)]
            row = {
                **{
                    key: [average(list(values)) for values in zip(*(f[key] for f in found), strict=True)]
                    for key in ("means", "best_of")
                },
                "distinct": average([f["distinct"] for f in found]),
                "seeds": options.seeds,
            }
            title = f"{name}, {keep:g}, {limit:g}, {learns_from}{' rounds' if isinstance(learns_from, int) else ''}"
            if options.measure != "likelihood":
                title += f", {options.measure}"
            if of_all != (8, 64):
                title += f", {options.updates} x {options.ranked}"
            rows[title] = row
            cells = (" ".join("-" if x is None else f"{100 * x:.2f}" for x in row[key]) for key in ("means", "best_of"))
            print(f"| {title} | {' | '.join(cells)} | {row['distinct']:.3f} |", flush=True)
            table.write_text(json.dumps({"run": run.name, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
