"""Both methods in the NASNet-like space on CIFAR-10, with and without the learned sampler (Tables 5 and 6, small).

    python experiments/cifar10_nasnet.py --data-root ../shared/data --seeds 0 1 2      search, then train what was found
    python experiments/cifar10_nasnet.py --summary                                     only collect what has ended

Searches: 3 cells of 4 channels, 6,000 images, 10 epochs; one-shot with the VAE and uniform, gradient with the VAE and
ProxylessNAS's multinomial. "deep" is the gradient search with the VAE on 5 cells: Table 6 asks whether searching as
deep as one evaluates is better. What each found is trained alone, 5 cells of 4 channels, by `vaenas train` with the
recipe "quick" (10 epochs of 5,000 images), and tested on the test set. A seed takes about an hour on two quiet cores.

Runs live in `--runs` (default ~/.cache/vaenas/experiments/cifar10_nasnet), two at a time, one thread each; started
again, the script goes on where it was. table.json and diversity.png (of seed 0) go to results/cifar10_nasnet/.
"""

import argparse
import json
import statistics
from functools import partial
from pathlib import Path

from runs import call, two_at_a_time
from vaenas.report.figures import diversity
from vaenas.report.run_data import read_run

RESULTS = Path(__file__).parent / "results" / "cifar10_nasnet"
SEARCH = {
    "space": "nasnet", "network.width": 4, "network.layers": 3, "data.source": "cifar10", "train_images": 6000,
    "supernet.epochs": 10, "supernet.batch_size": 32, "supernet.learning_rate": 0.025,
    "update.vae_interval": 2, "update.ranking_size": 24, "update.epsilon_limit": 1.0,
    "ranking.metric": "accuracy", "ranking.images": 500, "ranking.recalibration_images": 128,
    "surrogate.kind": "none", "evolution.population": 16, "evolution.generations": 4, "evolution.top_k": 5,
}  # fmt: skip
SEARCHES = {
    "one-shot uniform": {"method": "one-shot", "sampler": "uniform"},
    "one-shot vae": {"method": "one-shot", "sampler": "vae"},
    "gradient multinomial": {"method": "gradient", "gradient.arch_update": "two-path"},
    "gradient vae": {"method": "gradient", "sampler": "vae"},
    "gradient vae deep": {"method": "gradient", "sampler": "vae", "network.layers": 5},
}
TRAIN = {
    "space": "nasnet", "network.width": 4, "network.layers": 5, "data.source": "cifar10", "train_images": 5000,
    "recipe": "quick", "training.epochs": 10,
}  # fmt: skip


def run_of(name: str, seed: int, runs: Path) -> Path:
    return runs / f"{name.replace(' ', '-')}-seed{seed}"


def search_and_train(name: str, seed: int, root: Path, runs: Path) -> None:
    run, given = run_of(name, seed, runs), {"seed": seed, "data.root": str(root)}
    found = call("search", run, {**SEARCH, **SEARCHES[name], **given})["best"]["code"]
    print(f"{name}, seed {seed}: searched", flush=True)
    call("train", run.with_name(f"{run.name}-alone"), {**TRAIN, **given}, found)
    print(f"{name}, seed {seed}: trained alone", flush=True)


def summarise(runs: Path) -> None:
    """One row per search: the found networks trained alone, mean and standard deviation over seeds."""
    rows: dict[str, dict] = {}
    for name in SEARCHES:
        seeds = []
        for run in sorted(runs.glob(f"{name.replace(' ', '-')}-seed*-alone/result.json")):
            alone = json.loads(run.read_text())
            search = json.loads(
                (run.parent.with_name(run.parent.name.removesuffix("-alone")) / "result.json").read_text()
            )
            seeds.append(
                {
                    "seed": search["seed"], "code": search["best"]["code"], "test_accuracy": alone["accuracy"],
                    "params": alone["params"], "flops": alone["flops"], "search_accuracy": search["best"]["score"],
                    "draws": search["draws"], "search_seconds": search["seconds"], "train_seconds": alone["seconds"],
                }
            )  # fmt: skip
        if seeds:
            accuracies = [row["test_accuracy"] for row in seeds]
            rows[name] = {
                "mean": statistics.mean(accuracies),
                "std": statistics.stdev(accuracies) if len(seeds) > 1 else None,
                "params": statistics.mean(row["params"] for row in seeds),
                "seeds": seeds,
            }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "table.json").write_text(json.dumps({"search": SEARCH, "train": TRAIN, "rows": rows}, indent=1) + "\n")
    gradient = {name: run_of(name, 0, runs) for name, how in SEARCHES.items() if how["method"] == "gradient"}
    read = {name: read_run(run) for name, run in gradient.items() if (run / "result.json").exists()}
    if read:
        diversity(list(read.items())).savefig(RESULTS / "diversity.png")
    for name, row in rows.items():
        spread = "" if row["std"] is None else f" ± {100 * row['std']:.2f}"
        print(
            f"{name:22} {100 * row['mean']:.2f}{spread} %  {row['params']:,.0f} parameters  {len(row['seeds'])} seeds"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path.home() / ".cache/vaenas/experiments/cifar10_nasnet")
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    if not options.summary:
        options.runs.mkdir(parents=True, exist_ok=True)
        two_at_a_time(
            partial(search_and_train, name, seed, options.data_root.resolve(), options.runs)
            for seed in options.seeds
            for name in reversed(SEARCHES)  # the longest first
        )
    summarise(options.runs)


if __name__ == "__main__":
    main()
