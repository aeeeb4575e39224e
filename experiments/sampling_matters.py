"""Does sampling matter? Supernets of spaces whose truth is known, trained on what different samplers propose (Table 4).

    python experiments/sampling_matters.py --data-root ../shared/data --spaces macro --seeds 0 1 2
    python experiments/sampling_matters.py --summary                                only collect what has ended

For each space and each sampler `vaenas search --table T` on CIFAR-10: the same steps, images and evaluations, whatever
the sampler; the table is asked afterwards. Reported, mean and standard deviation over seeds: Kendall's tau of the final
supernet over architectures drawn uniformly from the table, and over the best tenth of them; the true accuracy and rank
of what the search returns (the evolution's favourite); the highest true accuracy of 10, 50, 100 and 300 draws of the
sampler: Table 4's weight-sharing row and its evolution column.

Runs live in `--runs` (default ~/.cache/vaenas/experiments/sampling_matters), two at a time, one thread each; started
again, the script goes on where it was. The summary goes to results/sampling_matters/table.json.
"""

import argparse
import json
import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from runs import call, two_at_a_time

RESULTS = Path(__file__).parent / "results" / "sampling_matters"
# Small, so that it ends on two cores; the same for every sampler.
SEARCH = {
    "data": "cifar10", "epochs": 8, "batch-size": 128, "learning-rate": 0.1, "vae-interval": 1, "ranking-size": 64,
    "ranking-images": 2000, "recalibration-images": 256, "population": 50, "generations": 6, "top-k": 10,
    "table-sample": 500, "log-interval": 50,
}  # fmt: skip
SPACES: dict[str, dict[str, Any]] = {
    "macro": {"width": 0.25, "source": "nas-bench-macro/nas-bench-macro_cifar10.json"},
    "nasbench201": {"width": 8, "layers": 1, "source": "nas-bench-201/cells.csv"},
    "nasbench101": {"width": 16, "layers": 1, "source": "nas-bench-101/cells.parquet"},
}
SAMPLERS = {
    "uniform": {"sampler": "uniform"},
    "fair": {"sampler": "fair"},  # needs a space without rules
    "categorical": {"sampler": "categorical"},
    "vae-literal": {"sampler": "vae", "vae": "literal"},
    "vae": {"sampler": "vae"},
}
COLUMNS = ("kendall", "kendall_top", "spearman")


def table_of(space: str, root: Path, runs: Path) -> Path:
    """The imported table, made once."""
    table = runs / f"{space}.table"
    if not table.exists():
        source = root / SPACES[space]["source"]
        words = [sys.executable, "-m", "vaenas.cli", "bench", "import", str(source), "--output", str(table)]
        subprocess.run(words, check=True)
    return table


def search(space: str, sampler: str, seed: int, root: Path, runs: Path) -> None:
    of_space = {name: value for name, value in SPACES[space].items() if name != "source"}
    given = {"space": space, "seed": seed, "data-root": root, "table": runs / f"{space}.table"}
    truth = call("search", runs / f"{space}-{sampler}-seed{seed}", {**SEARCH, **of_space, **SAMPLERS[sampler], **given})
    best = truth["truth"]["best"]
    print(f"{space}, {sampler}, seed {seed}: tau {truth['truth']['kendall']:.2f}, found {best}", flush=True)


def over_seeds(values: list[float | None]) -> dict[str, float | None]:
    known = [value for value in values if value is not None]
    spread = statistics.stdev(known) if len(known) > 1 else None
    return {"mean": statistics.mean(known) if known else None, "std": spread, "n": len(known)}


def summarise(runs: Path) -> None:
    rows: dict[str, dict[str, Any]] = {}
    for space in SPACES:
        for sampler in SAMPLERS:
            files = sorted(runs.glob(f"{space}-{sampler}-seed*/result.json"))
            results = [json.loads(file.read_text()) for file in files]
            if not results:
                continue
            truths = [result["truth"] for result in results]
            best = [truth["best"] or {"accuracy": None, "rank": None} for truth in truths]
            rows[f"{space} {sampler}"] = {
                **{name: over_seeds([truth[name] for truth in truths]) for name in COLUMNS},
                "found": over_seeds([b["accuracy"] for b in best]),
                "rank": over_seeds([b["rank"] for b in best]),
                "best_of": {
                    k: over_seeds([t["best_of"] and t["best_of"][k] for t in truths])
                    for k in truths[0]["uniform_best_of"]
                },
                "uniform_best_of": truths[0]["uniform_best_of"],
                "optimum": truths[0]["optimum"],
                "draws": [truth["draws"] for truth in truths],
                "seconds": over_seeds([result["seconds"] for result in results]),
            }
    RESULTS.mkdir(parents=True, exist_ok=True)
    content = {"search": SEARCH, "spaces": SPACES, "rows": rows}
    (RESULTS / "table.json").write_text(json.dumps(content, indent=1) + "\n")
    print("| space, sampler | seeds | tau | tau of the top 10 % | found, % | rank | best of 10 / 50 / 100 / 300, % |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, row in rows.items():
        best_of = " / ".join(shown(value, 100) for value in row["best_of"].values())
        cells = [shown(row["kendall"]), shown(row["kendall_top"]), shown(row["found"], 100), shown(row["rank"])]
        print(f"| {name} | {row['kendall']['n']} | {' | '.join(cells)} | {best_of} |")


def shown(value: dict[str, float | None], scale: float = 1) -> str:
    if value["mean"] is None:
        return "-"
    return f"{scale * value['mean']:.2f}" + ("" if value["std"] is None else f" ± {scale * value['std']:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"))
    parser.add_argument("--spaces", nargs="+", choices=SPACES, default=list(SPACES))
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path.home() / ".cache/vaenas/experiments/sampling_matters")
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    if not options.summary:
        options.runs.mkdir(parents=True, exist_ok=True)
        root = options.data_root.resolve()
        for space in options.spaces:
            table_of(space, root, options.runs)
        two_at_a_time(
            partial(search, space, sampler, seed, root, options.runs)
            for space in options.spaces
            for seed in options.seeds
            for sampler in options.samplers
            if (space, sampler) != ("nasbench101", "fair")
        )
    summarise(options.runs)


if __name__ == "__main__":
    main()
