"""Does sampling matter? Supernets of spaces whose truth is known, trained on what different samplers propose (Table 4).

    python experiments/sampling_matters.py --data-root ../shared/data --spaces macro --seeds 0 1 2
    python experiments/sampling_matters.py --summary                                only collect what has ended
    python experiments/sampling_matters.py --full             the benchmarks' widths and 32 x 32 pixels: with a GPU

For each space and each sampler `vaenas search --table T` on CIFAR-10, halved to 16 x 16 pixels: the same steps, images
and evaluations, whatever the sampler; the table is asked afterwards. Reported, mean and standard deviation over seeds:
Kendall's tau of the final supernet over architectures drawn uniformly from the table, and over the best tenth of them,
both of the scores and of the ridge surrogate to them; the true accuracy and rank of what the search returns (the
evolution's favourite); the highest true accuracy of 10, 50, 100 and 300 draws of the sampler: Table 4's weight-sharing
row and its evolution column, and the share of the gap from as many uniform draws to the optimum that they close.

Runs live in `--runs` (default ~/.cache/vaenas/experiments/sampling_matters), two at a time, one thread each; started
again, the script goes on where it was. What a run came to goes to results/sampling_matters/runs, which takes its place
once it has ended; the summary to results/sampling_matters/table.json, the sampler's draws over time to draws.svg.
"""

import argparse
import json
import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from runs import call, every_setting, two_at_a_time

RESULTS = Path(__file__).parent / "results" / "sampling_matters"
# Small, so that it ends on two cores; the same for every sampler.
SEARCH = {
    "data.source": "cifar10", "data.image_size": 16,
    "supernet.epochs": 8, "supernet.batch_size": 64, "supernet.learning_rate": 0.1,
    "update.vae_interval": 1, "update.ranking_size": 64, "ranking.metric": "likelihood",
    "ranking.images": 1000, "ranking.recalibration_images": 0,
    "evolution.population": 50, "evolution.generations": 10, "evolution.top_k": 10, "table.sample": 400,
    "log_interval": 50,
}  # fmt: skip
SPACES: dict[str, dict[str, Any]] = {
    "macro": {
        "network.width": 0.25,
        "full": {"network.width": 1.0, "data.image_size": 32}, "source": "nas-bench-macro/nas-bench-macro_cifar10.json",
    },
    # three times as long: after 8 epochs tau is half of what it is after 24, experiments/notes/ranking.md
    "nasbench201": {
        "network.width": 8, "network.layers": 1, "supernet.epochs": 24, "update.vae_interval": 3,
        "full": {"network.width": 16, "network.layers": 5, "data.image_size": 32}, "source": "nas-bench-201/cells.csv",
    },
    # labelled in part: the 7-vertex protocol
    "nasbench101": {
        "network.width": 16, "network.layers": 1, "full_cells": True,
        "full": {"network.width": 128, "network.layers": 3, "data.image_size": 32},
        "source": "nas-bench-101/cells.parquet",
    },
}  # fmt: skip
SAMPLERS = {
    "uniform": {"sampler": "uniform"},
    "fair": {"sampler": "fair"},  # needs a space without rules, which NAS-Bench-101's is not
    "categorical": {"sampler": "categorical"},
    "vae-paper": {"preset": "paper"},
    "vae": {"sampler": "vae"},
    "vae-quadratic": {"sampler": "vae", "ranking.metric": "quadratic"},  # only when asked for
}  # fmt: skip
COLUMNS = ("kendall", "kendall_top", "spearman")
COLOURS = dict(zip(SAMPLERS, ("0.6", "tab:brown", "tab:orange", "tab:blue", "tab:green", "tab:red"), strict=True))


def table_of(space: str, root: Path, runs: Path) -> Path:
    """The imported table, made once."""
    table = runs / f"{space}.table"
    if not table.exists():
        source = root / SPACES[space]["source"]
        words = [sys.executable, "-m", "vaenas", "bench", "import", str(source), "--output", str(table)]
        subprocess.run(words, check=True)
    return table


def search(space: str, sampler: str, seed: int, root: Path, runs: Path, results: Path, wide: bool) -> None:
    kept = results / "runs" / f"{space}-{sampler}-seed{seed}.json"
    of_space = {name: value for name, value in SPACES[space].items() if name not in ("source", "full")}
    given = {**SEARCH, **of_space, **(SPACES[space]["full"] if wide else {}), **SAMPLERS[sampler]}
    given |= {"space": space, "seed": seed}
    settings = every_setting(given)
    if kept.exists():
        if json.loads(kept.read_text())["settings"] != settings:
            raise SystemExit(f"{kept} is of other settings: move it away")
        return
    run = runs / f"{kept.stem}{'-full' if wide else ''}"
    result = call("search", run, {**given, "data.root": str(root), "table.path": str(runs / f"{space}.table")})
    truth = result["truth"]
    truth["sample"] = {name: [round(value, 5) for value in values] for name, values in truth["sample"].items()}
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps({"settings": settings, "truth": truth, "seconds": result["seconds"]}) + "\n")
    tau, fitted = truth["kendall"], truth["surrogate"]["kendall"]
    print(f"{space}, {sampler}, seed {seed}: tau {tau:.2f}, fitted {fitted:.2f}, found {truth['best']}", flush=True)


def over_seeds(values: list[float | None]) -> dict[str, float | None]:
    known = [value for value in values if value is not None]
    spread = statistics.stdev(known) if len(known) > 1 else None
    return {"mean": statistics.mean(known) if known else None, "std": spread, "n": len(known)}


def closed(truth: dict[str, Any], k: str) -> float | None:
    """Of the gap from the best of k uniform draws to the optimum, by k draws of the sampler."""
    if truth["best_of"] is None:
        return None
    uniform = truth["uniform_best_of"][k]
    return (truth["best_of"][k] - uniform) / (truth["optimum"] - uniform)


def summarise(results: Path) -> None:
    rows: dict[str, dict[str, Any]] = {}
    for space in SPACES:
        for sampler in SAMPLERS:
            files = sorted((results / "runs").glob(f"{space}-{sampler}-seed*.json"))
            ended = [json.loads(file.read_text()) for file in files]
            if not ended:
                continue
            truths = [run["truth"] for run in ended]
            best = [truth["best"] or {"accuracy": None, "rank": None} for truth in truths]
            rows[f"{space} {sampler}"] = {
                **{name: over_seeds([truth[name] for truth in truths]) for name in COLUMNS},
                "surrogate": {name: over_seeds([truth["surrogate"][name] for truth in truths]) for name in COLUMNS},
                "found": over_seeds([b["accuracy"] for b in best]),
                "rank": over_seeds([b["rank"] for b in best]),
                "best_of": {
                    k: over_seeds([t["best_of"] and t["best_of"][k] for t in truths])
                    for k in truths[0]["uniform_best_of"]
                },
                "gap_closed": {
                    k: over_seeds([closed(truth, k) for truth in truths]) for k in truths[0]["uniform_best_of"]
                },
                "uniform_best_of": truths[0]["uniform_best_of"],
                "optimum": truths[0]["optimum"],
                "mean": truths[0]["mean"],
                "draws": [truth["draws"] for truth in truths],
                "seconds": over_seeds([run["seconds"] for run in ended]),
            }
    content = {"search": SEARCH, "spaces": SPACES, "rows": rows}
    (results / "table.json").write_text(json.dumps(content, indent=1) + "\n")
    draw(rows, results / "draws.svg")
    for space in SPACES:
        of_space = {name.split(" ")[1]: row for name, row in rows.items() if name.startswith(f"{space} ")}
        if of_space:
            print(f"\n{space}\n\n{as_table(of_space)}")


def as_table(rows: dict[str, dict[str, Any]]) -> str:
    """As docs/reference/results/weight-sharing.md has it."""
    lines = [
        "| sampler | seeds | tau: scores, fit | true top tenth | found, % (rank) | best of draws, % | gap closed, % |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for sampler, row in rows.items():
        taus = [f"{shown(row[name])}, {shown(row['surrogate'][name])}" for name in ("kendall", "kendall_top")]
        found = f"{shown(row['found'], 100)} ({shown({**row['rank'], 'std': None}, digits=0)})"
        best_of = " / ".join(shown(value, 100) for value in row["best_of"].values())
        gaps = " / ".join(shown(value, 100, 0) for value in row["gap_closed"].values())
        cells = (sampler, str(row["kendall"]["n"]), *taus, found, best_of, gaps)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(rows: dict[str, dict[str, Any]], file: Path) -> None:
    """The true mean of the sampler's draws after each update, every seed a line."""
    spaces = [space for space in SPACES if any(name.startswith(f"{space} ") for name in rows)]
    figure, axes = plt.subplots(1, len(spaces), figsize=(4.2 * len(spaces), 3.2), layout="constrained", squeeze=False)
    for space, axis in zip(spaces, axes[0], strict=True):
        for sampler in SAMPLERS:
            for seed, draws in enumerate(rows.get(f"{space} {sampler}", {"draws": []})["draws"]):
                line = [(at["epoch"], 100 * at["mean"]) for at in draws if at["mean"] is not None]
                label = sampler if seed == 0 and line else None
                axis.plot(*zip(*line, strict=True), color=COLOURS[sampler], label=label) if line else None
        mean = next(row["mean"] for name, row in rows.items() if name.startswith(f"{space} "))
        axis.axhline(100 * mean, color=COLOURS["uniform"], ls="--", label="uniform")
        axis.set(title=space, xlabel="Epoch", ylabel="True mean of the draws (%)")
        axis.legend(fontsize=8)
    figure.savefig(file)


def shown(value: dict[str, float | None], scale: float = 1, digits: int = 2) -> str:
    if value["mean"] is None:
        return "-"
    spread = "" if value["std"] is None else f" ± {scale * value['std']:.{digits}f}"
    return f"{scale * value['mean']:.{digits}f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"))
    parser.add_argument("--spaces", nargs="+", choices=SPACES, default=list(SPACES))
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS)[:-1])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path.home() / ".cache/vaenas/experiments/sampling_matters")
    parser.add_argument("--summary", action="store_true")
    parser.add_argument("--full", action="store_true", help="the benchmarks' own widths, 32 x 32 pixels: needs a GPU")
    options = parser.parse_args()
    results = RESULTS / "full" if options.full else RESULTS
    if not options.summary:
        options.runs.mkdir(parents=True, exist_ok=True)
        root = options.data_root.resolve()
        for space in options.spaces:
            table_of(space, root, options.runs)
        two_at_a_time(
            partial(search, space, sampler, seed, root, options.runs, results, options.full)
            for space in options.spaces
            for seed in options.seeds
            for sampler in options.samplers
            if (space, sampler) != ("nasbench101", "fair")
        )
    summarise(results)


if __name__ == "__main__":
    main()
