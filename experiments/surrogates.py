"""Which surrogate to a supernet's scores? By cross-validation on the scores, and by the truth.

    python experiments/surrogates.py --data-root ../shared/data

Of sampling_matters' uniform supernets (three spaces, three seeds) the scores of 400 architectures are in
results/sampling_matters/runs. Each surrogate is made from 200 of them, at random, 10 times; printed, and written to
results/surrogates/table.json: Kendall's tau of its predictions for the other 200, with their scores and with the truth.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from sampling_matters import RESULTS as RUNS
from sampling_matters import SPACES, table_of
from torch import Generator, Tensor

from vaenas.blackbox.predictor import GaussianProcess
from vaenas.evaluation.rank import kendall_tau
from vaenas.evaluation.supernet import Evaluate
from vaenas.runs.truth import Truth
from vaenas.search.surrogate import RidgeSurrogate
from vaenas.spaces.space import Population, Scores, SearchSpace

RESULTS = Path(__file__).parent / "results" / "surrogates"
SEEDS, SPLITS, FITTED = (0, 1, 2), 10, 200


class PairedSurrogate(RidgeSurrogate):
    """Of features and products of two."""

    def _features(self, population: Population) -> Float[Tensor, "n f"]:
        single = super()._features(population)
        i, j = torch.triu_indices(single.shape[1], single.shape[1], 1)
        return torch.cat([single, single[:, i] * single[:, j]], dim=1)


def gaussian_process(space: SearchSpace, population: Population, scores: Scores) -> Evaluate:
    process = GaussianProcess(len(space.features(population)))
    process.fit(space.features(population), space.keys(population), scores)
    return lambda others: process.mean(space.features(others), space.keys(others)).float()


SURROGATES: dict[str, Callable[[SearchSpace, Population, Scores], Evaluate]] = {
    "ridge": RidgeSurrogate, "ridge, pairs of features": PairedSurrogate, "Gaussian process": gaussian_process,
}  # fmt: skip


def taus(truth: Truth, scores: Scores, surrogate: str) -> list[tuple[float, float]]:
    """Of each split: with the scores and with the truth."""
    sample, found = torch.unique(truth.sample(len(scores)), dim=0), []
    for split in range(SPLITS):
        order = torch.randperm(len(sample), generator=Generator().manual_seed(split))
        seen, others = order[:FITTED], order[FITTED:]
        predicted = SURROGATES[surrogate](truth.space, sample[seen], scores[seen])(sample[others])
        true = truth.task.truth(sample[others])
        found.append((kendall_tau(predicted, scores[others]), kendall_tau(predicted, true)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"))
    parser.add_argument("--runs", type=Path, default=Path.home() / ".cache/vaenas/experiments/sampling_matters")
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    table: dict[str, dict[str, dict[str, float]]] = {}
    for space in SPACES:
        for surrogate in SURROGATES:
            found = []
            for seed in SEEDS:
                file = table_of(space, options.data_root.resolve(), options.runs)
                truth = Truth.open(file, space, seed, space == "nasbench101")
                kept = json.loads((RUNS / "runs" / f"{space}-uniform-seed{seed}.json").read_text())["truth"]["sample"]
                found += taus(truth, torch.tensor(kept["scores"]), surrogate)
            of_scores, of_truth = map(statistics.mean, zip(*found, strict=True))
            table.setdefault(space, {})[surrogate] = {"scores": of_scores, "truth": of_truth}
            print(f"{space}, {surrogate}: tau with scores {of_scores:.2f}, with the truth {of_truth:.2f}", flush=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "table.json").write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
