"""The threads that a search takes by itself against the best number: on a machine that is idle, and beside a process.

    python benchmarks/threads.py [--rounds 2] [--epochs 1]                                    (5 minutes on 2 cores)

The same small `vaenas search`, start included, with one thread, with one a core, and with what it chooses; the fastest
of `--rounds` counts, all three in turn each time. Beside a process that spins in Python one a core is given up after
twice the time of the slower of the others. Run it on a machine that does nothing else. Last line: JSON with both
ratios, automatic / best.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vaenas.machine import cores

SEARCH = ["--batch-size", "128", "--evolution.population", "20", "--evolution.generations", "2"]
SEARCH += ["--update.ranking-size", "20", "--update.vae-interval", "1"]
SEARCH += ["--ranking.images", "1000", "--ranking.recalibration-images", "256"]


def search(threads: int | None, epochs: int, limit: float | None = None) -> tuple[float, str]:
    """Seconds of a whole search, or `limit`, and how many threads it says that it took."""
    env = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    if threads is not None:
        env["OMP_NUM_THREADS"] = str(threads)
    with tempfile.TemporaryDirectory() as folder:
        words = ["search", "--output", str(Path(folder) / "run"), "--epochs", str(epochs), *SEARCH]
        began = time.perf_counter()
        try:
            ended = subprocess.run(
                [sys.executable, "-m", "vaenas", *words], env=env, capture_output=True, text=True, timeout=limit
            )
        except subprocess.TimeoutExpired:
            return time.perf_counter() - began, str(threads)
    ended.check_returncode()
    said = re.search(r"^(\d+) threads?: ", ended.stderr, re.MULTILINE)
    return time.perf_counter() - began, said[1] if said else str(threads)


def ratio(where: str, rounds: int, epochs: int, gives_up: bool) -> float:
    """Automatic / best, and a line for each."""
    seconds: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, threads in (("automatic", None), ("1 thread", 1), ("all cores", cores())):
            limit = 2 * max(map(min, seconds.values())) if gives_up and name == "all cores" else None
            took, chosen = search(threads, epochs, limit)
            print(f"{where}, {name} ({chosen}): {took:.1f} s" + (" or more" if limit and took >= limit else ""))
            seconds.setdefault(name, []).append(took)
    fastest = {name: min(times) for name, times in seconds.items()}
    return round(fastest["automatic"] / min(fastest["1 thread"], fastest["all cores"]), 3)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=1)
    options = parser.parse_args()
    idle = ratio("idle", options.rounds, options.epochs, gives_up=False)
    spinning = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        busy = ratio("busy", 1, options.epochs, gives_up=True)
    finally:
        spinning.kill()
    print(json.dumps({"benchmark": "threads", "idle": idle, "busy": busy, "cores": cores()}))
