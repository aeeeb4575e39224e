"""How many images does batch norm need before an architecture is scored? Rank correlations on trained supernets.

    python experiments/recalibration.py RUN [RUN ...]           of `vaenas search --table`, such as sampling_matters'

For each run the final supernet scores its sample of the table anew, with 0 (each ranking batch by its own statistics)
to 2,048 recalibration images. Printed and written to results/recalibration/table.json: Kendall's tau with the truth,
and with the scores of 2,048 images; seconds for an architecture.
"""

import argparse
import json
import time
from pathlib import Path

from vaenas.evaluation.rank import kendall_tau
from vaenas.evaluation.supernet import SupernetEvaluator
from vaenas.runs.config import make_config
from vaenas.runs.images import Subset
from vaenas.runs.search_run import SearchRun

RESULTS = Path(__file__).parent / "results" / "recalibration"
IMAGES = (0, 32, 64, 128, 256, 512, 1024, 2048)


def study(run: Path) -> dict:
    """Of one finished run."""
    search = SearchRun(make_config({}, run / "config.yaml"), run, resume=True)
    evaluate, training = search.search.evaluate, search.search.images
    assert isinstance(evaluate, SupernetEvaluator)
    assert isinstance(training, Subset)
    assert search.truth is not None
    sample = search.truth.sample(search.config.table_sample)
    truth, found = search.truth.task.truth(sample), {}
    for images in IMAGES:
        evaluate.recalibration = training.batches(images)
        began = time.monotonic()
        found[images] = evaluate(sample), (time.monotonic() - began) / len(sample)
    full = found[IMAGES[-1]][0]
    return {
        str(images): {"truth": kendall_tau(scores, truth), "full": kendall_tau(scores, full), "seconds": seconds}
        for images, (scores, seconds) in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    options = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    table = RESULTS / "table.json"
    content = json.loads(table.read_text()) if table.exists() else {}
    for run in options.runs:
        content[run.name] = study(run)
        table.write_text(json.dumps(content, indent=1) + "\n")
        print(f"{run.name}\n| images | tau with the truth | tau with 2,048 | seconds |\n| --- | --- | --- | --- |")
        for images, row in content[run.name].items():
            print(f"| {images} | {row['truth']:.3f} | {row['full']:.3f} | {row['seconds']:.2f} |")


if __name__ == "__main__":
    main()
