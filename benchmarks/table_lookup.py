"""Answers of the NAS-Bench-101 table from raw cells, key and check included, against a dict from hash to accuracy.

The dict is asked with the same cells' official hashes, computed beforehand (by hashlib, some 0.15 ms a cell): it spares
what takes longest. Beside it: what opening a table of the full size (4 budgets, 3 runs, validation and test) takes in a
process of its own, for the first time, when its whole content is checked, and later.

python benchmarks/table_lookup.py PATH/TO/cells.parquet      (a minute on 2 cores)
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from ratio import ratio

from vaenas.bench.import_table import import_table
from vaenas.evaluation.tabular import TabularBenchmark
from vaenas.spaces.cells import module_hash

N = 30_000
OPEN = """
import json, sys, time
from pathlib import Path
from vaenas.evaluation.tabular import TabularBenchmark

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

before, start = resident(), time.perf_counter()
table = TabularBenchmark.open(Path(sys.argv[1]))
seconds, megabytes = time.perf_counter() - start, resident() - before
print(json.dumps({"open_seconds": round(seconds, 4), "open_megabytes": round(megabytes, 1)}))
"""


def opening(sample: TabularBenchmark) -> dict[str, float]:
    """Seconds and megabytes of opening a table of all cells with made-up accuracies."""
    values = torch.rand(len(sample), 4, 3)
    population = sample.population
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "table")
        TabularBenchmark.of(
            sample.space, population, sample.budgets, values, test=1 - values, params=sample.params(population),
            source="benchmark", measured="made up",
        ).save(path)  # fmt: skip
        time.sleep(3)  # what was written just now is checked each time
        first, again = (
            json.loads(subprocess.run([sys.executable, "-c", OPEN, path], stdout=subprocess.PIPE, check=True).stdout)
            for _ in range(2)
        )
        return {"first_open_seconds": first["open_seconds"], **again}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("cells", type=Path)
    parser.add_argument("--runs", type=int, default=30)
    options = parser.parse_args()

    table = import_table(options.cells)
    opened = opening(table)
    # Known and unknown cells; the order of the table would be kinder to its cache than that of a search.
    population = table.population[torch.randperm(len(table), generator=torch.Generator().manual_seed(0))[:N]]
    hashes = module_hash(population)
    truth = dict(zip(hashes, table.validation(population).tolist(), strict=True))
    ratio(
        "table_lookup",
        lambda: table.validation(population),
        lambda: [truth[name] for name in hashes],
        "a dict from hash to accuracy, hashes computed beforehand",
        options.runs,
        more=lambda seconds: {"answers_per_second": round(N / seconds), **opened},
    )


if __name__ == "__main__":
    main()
