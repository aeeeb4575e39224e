"""Table 4 without weight sharing, and Fig. 2, on the 30,001-cell sample of NAS-Bench-101 (single-run validation).

    python experiments/table4.py --data-root ../shared/data

10 samplers a row, 1,000 draws that count each, resumable; 45 minutes on one of two busy cores (AMD EPYC). Writes
experiments/results/table4/table4.json and fig2.png; what it is and what came out: docs/reference/results/tables.md.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "table4"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"))
    parser.add_argument("--samplers", type=int, default=10)
    options = parser.parse_args()
    vaenas = [sys.executable, "-m", "vaenas", "bench"]
    with tempfile.TemporaryDirectory() as folder:
        table = str(Path(folder) / "nasbench101.table")
        cells = options.data_root / "nas-bench-101" / "cells.parquet"
        subprocess.run([*vaenas, "import", str(cells), "--output", table], check=True)
        arguments = ["--table", table, "--output", str(RESULTS), "--samplers", str(options.samplers)]
        subprocess.run([*vaenas, "table4", *arguments], check=True)


if __name__ == "__main__":
    main()
