"""Regret over labels on the three tables: what a learned sampler finds with 200 labels, all counted.

    python experiments/curves.py --data-root ../shared/data

100 seeds a method and table, resumable. On 2 cores of an AMD EPYC: 13 minutes on NAS-Bench-201, 20 on NAS-Bench-Macro
(beside other things), about an hour on the NAS-Bench-101 sample. Writes curves.json and curves.png to
experiments/results/curves/TABLE/; what it is and what came out: docs/reference/results/tables.md.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "curves"
TABLES = {
    "nasbench201": "nas-bench-201/cells.csv",
    "nasbench-macro": "nas-bench-macro/nas-bench-macro_cifar10.json",
    "nasbench101": "nas-bench-101/cells.parquet",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"))
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--methods", default="vae,vae_paper,random,evolution,local,tpe,categorical")
    parser.add_argument("--seeds", type=int, default=100)
    options = parser.parse_args()
    vaenas = [sys.executable, "-m", "vaenas", "bench"]
    with tempfile.TemporaryDirectory() as folder:
        for name in options.tables:
            table, output = str(Path(folder) / f"{name}.table"), str(RESULTS / name)
            source = str(options.data_root / TABLES[name])
            subprocess.run([*vaenas, "import", source, "--output", table], check=True)
            arguments = ["--table", table, "--output", output, "--seeds", str(options.seeds)]
            subprocess.run([*vaenas, "curves", *arguments, "--methods", options.methods], check=True)


if __name__ == "__main__":
    main()
