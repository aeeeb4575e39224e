"""How should a sampler learn from a supernet's scores? Simulated on one supernet that has scored all of Macro.

    python experiments/imagined.py RUN           of `vaenas search --space macro --table`, such as sampling_matters'

The run's final supernet scores all 6,561 architectures (by likelihood, each batch by its own statistics). On these
scores Algorithm 1 is called 8 times on 64 draws of Γ with ε rising to its limit, the weights standing still; it learns
from the scores, from the additive fit to them, or from what the fit expects of 1,000 more draws of Γ. Printed and
written to results/imagined/table.json: the true mean of the sampler's draws after each update, the expected best of
10, 50, 100, 300 draws at the end, and the share of different ones among 6,000; means over seeds.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Generator

from vaenas.bench.truth import best_of
from vaenas.evaluation.supernet import SupernetEvaluator
from vaenas.runs.config import make_config
from vaenas.runs.search_run import SearchRun
from vaenas.samplers.categorical import CategoricalSampler, CategoricalSettings
from vaenas.samplers.mixture import Mixture
from vaenas.samplers.sampler import LearnedSampler
from vaenas.samplers.uniform import UniformSampler
from vaenas.samplers.vae import PAPER_LITERAL, RECOMMENDED, VAESampler
from vaenas.search.additive import AdditiveFit
from vaenas.search.shared_weights import IMAGINED
from vaenas.spaces.macro import macro_space

RESULTS = Path(__file__).parent / "results" / "imagined"
UPDATES, RANKED, IMAGES, SEEDS = 8, 64, 500, 3
SPACE = macro_space()
EVERY = torch.cartesian_prod(*[torch.arange(3)] * SPACE.slots)
PLACES = torch.tensor([3**slot for slot in reversed(range(SPACE.slots))])
SAMPLERS: dict[str, Callable[[Generator], LearnedSampler]] = {
    "categorical": lambda rng: CategoricalSampler(SPACE, CategoricalSettings()),
    "vae-literal": lambda rng: VAESampler(SPACE, rng, PAPER_LITERAL),
    "vae": lambda rng: VAESampler(SPACE, rng, RECOMMENDED),
}


def all_scores(run: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """The supernet's scores of `EVERY`, and the truth."""
    search = SearchRun(make_config({}, run / "config.yaml"), run, resume=True)
    evaluate = search.search.evaluate
    assert isinstance(evaluate, SupernetEvaluator)
    assert search.truth is not None
    images, labels = (torch.cat(part) for part in zip(*evaluate.ranking, strict=True))
    ranking = [(images[i : i + 250], labels[i : i + 250]) for i in range(0, min(IMAGES, len(labels)), 250)]
    evaluate = SupernetEvaluator(evaluate.network, [], ranking, evaluate.prepare, measure="likelihood")
    return torch.cat([evaluate(part) for part in EVERY.split(729)]), search.truth.task.truth(EVERY)


def simulate(name: str, limit: float, learns_from: str, seed: int, scores: torch.Tensor, truth: torch.Tensor) -> dict:
    rng = Generator().manual_seed(seed)
    sampler = SAMPLERS[name](rng)
    gamma, means = Mixture(UniformSampler(SPACE), sampler), []
    for update in range(1, UPDATES + 1):
        epsilon = limit * update / UPDATES
        population, _ = gamma.sample(torch.full((RANKED,), epsilon), rng)
        worth = scores[(population * PLACES).sum(-1)]
        if learns_from != "scores":
            fit = AdditiveFit(SPACE, population, worth)
            if learns_from == "imagined":
                more, _ = gamma.sample(torch.full((IMAGINED,), epsilon), rng)
                population = torch.cat([population, more])
            worth = fit(population)
        sampler.update(population, worth, rng)
        means.append(float(truth[(sampler.sample(300, rng) * PLACES).sum(-1)].mean()))
    drawn = sampler.sample(6000, rng)
    best = [best_of(truth[(drawn * PLACES).sum(-1)], k) for k in (10, 50, 100, 300)]
    return {"means": means, "best_of": best, "distinct": len(drawn.unique(dim=0)) / len(drawn)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run
    scores, truth = all_scores(run)
    rows: dict[str, Any] = {}
    print("| sampler, limit of ε, learns from | true mean after each update, % | best of 10, 50, 100, 300 | distinct |")
    print("| --- | --- | --- | --- |")
    for name in SAMPLERS:
        for limit in (1.0, 0.5):
            for learns_from in ("scores", "fit", "imagined"):
                found = [simulate(name, limit, learns_from, seed, scores, truth) for seed in range(SEEDS)]
                row = {key: torch.tensor([f[key] for f in found]).mean(0).tolist() for key in found[0]}
                rows[f"{name}, {limit:g}, {learns_from}"] = row
                cells = (" ".join(f"{100 * x:.2f}" for x in row[key]) for key in ("means", "best_of"))
                print(f"| {name}, {limit:g}, {learns_from} | {' | '.join(cells)} | {row['distinct']:.3f} |", flush=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "table.json").write_text(json.dumps({"run": run.name, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
