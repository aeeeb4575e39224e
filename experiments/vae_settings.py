"""Which settings of the VAE, against the cross-entropy method, when the truth is a table under noise.

    python experiments/vae_settings.py --table ../shared/data/nas-bench-macro/nas-bench-macro_cifar10.json

Algorithm 2 without a supernet on NAS-Bench-Macro (8 slots, 3 operations): 12 rounds of 64 architectures from Γ, ε from
0 to 11/12, the score is the table's mean accuracy plus Gaussian noise of 0.4 %; then 300 draws. 6 seeds, some 8 minutes
on one core. Writes experiments/results/vae_settings/summary.json.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from vaenas.samplers.categorical import CategoricalSampler, CategoricalSettings
from vaenas.samplers.mixture import Mixture, linear_epsilon
from vaenas.samplers.sampler import LearnedSampler
from vaenas.samplers.uniform import UniformSampler
from vaenas.samplers.vae import PAPER, RECOMMENDED, VAESampler, VAESettings
from vaenas.spaces.space import SearchSpace

ROUNDS, RANKED, NOISE, DRAWS, SEEDS = 12, 64, 0.004, 300, 6
SPACE = SearchSpace("macro", ("012",) * 8, (8,))
RESULTS = Path(__file__).parent / "results" / "vae_settings" / "summary.json"


def vae(settings: VAESettings) -> Callable[[torch.Generator], LearnedSampler]:
    return lambda rng: VAESampler(SPACE, rng, settings)


def categorical(keep_ratio: float) -> Callable[[torch.Generator], LearnedSampler]:
    return lambda rng: CategoricalSampler(SPACE, CategoricalSettings(keep_ratio=keep_ratio))


SAMPLERS = {
    "categorical, K = 50 %": categorical(0.5),
    "categorical, K = 25 %": categorical(0.25),
    "VAE paper (K = 50 %, 100 iterations)": vae(PAPER),
    "K = 25 %, 100 iterations": vae(replace(PAPER, keep_ratio=0.25)),
    "K = 25 %, 100 iterations, 0.1 free bits": vae(replace(PAPER, keep_ratio=0.25, free_bits=0.1)),
    "K = 25 %, 30 iterations": vae(replace(PAPER, keep_ratio=0.25, iterations=30)),
    "recommended (K = 25 %, 30 iterations, 0.1 free bits)": vae(RECOMMENDED),
}


def run(make: Callable[[torch.Generator], LearnedSampler], truth: torch.Tensor, seed: int) -> dict[str, float]:
    """One seed: accuracies of the final draws in %, and the last update's statistics."""
    places = 3 ** torch.arange(7, -1, -1)
    rng = torch.Generator().manual_seed(seed)
    sampler, epsilon = make(rng), linear_epsilon(1 / ROUNDS)
    mixture = Mixture(UniformSampler(SPACE), sampler)
    stats = None
    for i in range(ROUNDS):
        population, _ = mixture.sample(torch.full((RANKED,), epsilon(i)), rng)
        scores = truth[(population * places).sum(-1)] + NOISE * torch.randn(RANKED, generator=rng)
        stats = sampler.update(population, scores, rng)
    assert stats is not None
    drawn = truth[(sampler.sample(DRAWS, rng) * places).sum(-1)]
    found = {"mean": 100 * float(drawn.mean()), "best of 50": 100 * float(drawn[:50].max())}
    return found | {
        "entropy": stats.entropy, "distinct": stats.distinct, "kl": stats.kl or 0.0,
        "active units": float(stats.active_units or 0),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True)
    rows = json.loads(parser.parse_args().table.read_text())
    torch.set_num_threads(1)
    truth = torch.zeros(3**8)
    for code, row in rows.items():
        truth[int(code, 3)] = row["mean_acc"] / 100
    summary = {}
    for name, make in SAMPLERS.items():
        runs = [run(make, truth, seed) for seed in range(SEEDS)]
        summary[name] = {
            key: {
                "mean": round(statistics.mean(r[key] for r in runs), 4),
                "standard_error": round(statistics.stdev(r[key] for r in runs) / SEEDS**0.5, 4),
            }
            for key in runs[0]
        }
        print(name, {key: value["mean"] for key, value in summary[name].items()}, flush=True)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(
        json.dumps({"seeds": SEEDS, "optimum": 100 * float(truth.max()), "rows": summary}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
