"""Algorithm 2 on all of CIFAR-10 in the ShuffleNet-like space, with the learned sampler and with the uniform one.

    python experiments/cifar10_one_shot.py --data-root ../shared/data --seeds 0          both samplers, side by side
    python experiments/cifar10_one_shot.py --summary                                    only collect what has ended

20 epochs, 10 layers, width 0.25; a pair of runs took 47 minutes, one a core of 2 (AMD EPYC, other work beside them).
Seed 0, 2026-11-25: best path 0.604 with the learned sampler, 0.598 with the uniform one. Runs live in `--runs` (default
~/.cache/vaenas/experiments/cifar10_one_shot); started again, the script goes on where it was. The summary goes to
experiments/results/cifar10_one_shot/.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

from runs import options as options_of
from runs import with_effect

RESULTS = Path(__file__).parent / "results" / "cifar10_one_shot"
SETTINGS = {
    "data.source": "cifar10", "network.layers": 10, "network.width": 0.25,
    "supernet.epochs": 20, "supernet.batch_size": 128, "supernet.learning_rate": 0.1,
    "update.vae_interval": 2, "update.ranking_size": 48, "update.epsilon_limit": 1.0, "ranking.metric": "accuracy",
    "surrogate.kind": "none", "evolution.population": 40, "evolution.generations": 8, "evolution.top_k": 10,
}  # fmt: skip


def start(sampler: str, seed: int, root: Path, runs: Path) -> subprocess.Popen[bytes] | None:
    run = runs / f"{sampler}-seed{seed}"
    if (run / "result.json").exists():
        return None
    command = [sys.executable, "-m", "vaenas", "search"]
    if (run / "config.yaml").exists():
        command += ["--resume", str(run)]
    else:
        settings = with_effect({**SETTINGS, "sampler": sampler, "seed": seed, "data.root": str(root.resolve())})
        command += [*options_of(settings), "--output", str(run)]
    runs.mkdir(parents=True, exist_ok=True)
    log = (runs / f"{run.name}.log").open("ab")
    return subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})


def summarise(runs: Path) -> None:
    """Every finished run's result, and per sampler the mean over seeds."""
    rows, summary = [], {}
    for file in sorted(runs.glob("*/result.json")):
        result = json.loads(file.read_text())
        result.pop("evaluations")
        rows.append({"run": file.parent.name, **result})
        target = RESULTS / file.parent.name
        target.mkdir(parents=True, exist_ok=True)
        # where the data lie on one machine is of no use on another
        root = re.search(r"(?m)^  root: (.*)$", (file.parent / "config.yaml").read_text())
        for name in ("config.yaml", "result.json", "report.html"):
            text = (file.parent / name).read_text()
            (target / name).write_text(text.replace(root[1], "../shared/data") if root else text)
    for sampler in sorted({row["sampler"] for row in rows}):
        best = [row["best"]["score"] for row in rows if row["sampler"] == sampler]
        spread = statistics.stdev(best) if len(best) > 1 else None
        summary[sampler] = {"best_accuracy_mean": statistics.mean(best), "std": spread, "seeds": len(best)}
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "summary.json").write_text(json.dumps({"samplers": summary, "runs": rows}, indent=1) + "\n")
    print(json.dumps(summary, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--samplers", nargs="+", default=["vae", "uniform"])
    parser.add_argument("--runs", type=Path, default=Path.home() / ".cache/vaenas/experiments/cifar10_one_shot")
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    if not options.summary:
        for seed in options.seeds:
            both = [start(sampler, seed, options.data_root, options.runs) for sampler in options.samplers]
            if any(process.wait() for process in both if process is not None):
                raise SystemExit(f"a run failed; see the .log files in {options.runs}")
    summarise(options.runs)


if __name__ == "__main__":
    main()
