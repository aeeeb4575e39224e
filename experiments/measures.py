"""What should a supernet's score be? Measures of the same logits against the truth, on supernets of finished searches.

    python experiments/measures.py RUN [RUN ...]           of `vaenas search --table`, such as sampling_matters'

The final supernet of each run gives its logits on the ranking images (each batch normalised by its own statistics) for
the run's sample of the table. Of each measure are printed, and written to results/measures/table.json: Kendall's tau
with the truth, of the scores and of the ridge surrogate to them; and the mean true accuracy of the 10 and of the 100
architectures of the table that the fit puts first.

"calibrated": the logits are divided by the temperature that is best for that architecture (Guo et al. 2017).
"""

import argparse
import json
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from vaenas.evaluation.rank import kendall_tau
from vaenas.evaluation.supernet import SupernetEvaluator
from vaenas.runs.config import SearchConfig
from vaenas.runs.directory import RunDirectory
from vaenas.runs.search_run import SearchRun
from vaenas.runs.settings import make
from vaenas.search.surrogate import RidgeSurrogate
from vaenas.spaces.space import Scores

RESULTS = Path(__file__).parent / "results" / "measures"
TEMPERATURES = torch.logspace(-1, 1, 41)


def measures(logits: Float[Tensor, "n b classes"], labels: Int64[Tensor, "b"]) -> dict[str, Scores]:
    n, b = logits.shape[:2]

    def likelihood(logits: Tensor) -> Scores:
        losses = nn.functional.cross_entropy(logits.flatten(0, 1), labels.repeat(n), reduction="none")
        return (-losses.view(n, b).mean(1)).exp()

    best = torch.stack([likelihood(logits / t) for t in TEMPERATURES]).max(0)
    found = {"accuracy": (logits.argmax(-1) == labels).float().mean(1), "likelihood": likelihood(logits)}
    found["likelihood, calibrated"] = best.values
    for name, divided in (("", logits), (", calibrated", logits / TEMPERATURES[best.indices][:, None, None])):
        p = divided.softmax(-1)
        right = p.gather(2, labels.expand(n, b)[:, :, None])[:, :, 0]
        found[f"mean probability{name}"] = right.mean(1)
        found[f"quadratic score{name}"] = 0.5 + (right - 0.5 * p.square().sum(-1)).mean(1)
    ranks = [found[name].argsort().argsort() for name in ("accuracy", "likelihood")]
    found["sum of the ranks of accuracy and likelihood"] = sum(ranks, torch.zeros(n))
    return found


def study(run: Path) -> dict[str, dict[str, float]]:
    """Of one finished run."""
    search = SearchRun(make(SearchConfig, {}, run / "config.yaml"), RunDirectory.open(run, "search"))
    evaluate = search.saved_scores.evaluate
    assert isinstance(evaluate, SupernetEvaluator)
    assert search.truth is not None
    evaluate.recalibration = []
    sample = search.truth.sample(search.config.table.sample)
    truth, labels = search.truth.task.truth(sample), torch.cat([labels for _, labels in evaluate.ranking])
    parts: list[list[Tensor]] = [[] for _ in sample]
    for row, logits, _ in evaluate.logits(sample):
        parts[row].append(logits.float().cpu())
    every = search.truth.task.population
    of_every = search.truth.task.truth(every)
    rows = {}
    for name, scores in measures(torch.stack([torch.cat(part) for part in parts]), labels).items():
        fit = RidgeSurrogate(search.truth.space, sample, scores)
        first = fit(every).argsort(descending=True)
        rows[name] = {
            "scores": kendall_tau(scores, truth), "fit": kendall_tau(fit(sample), truth),
            "first 10": float(of_every[first[:10]].mean()), "first 100": float(of_every[first[:100]].mean()),
        }  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    options = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    table = RESULTS / "table.json"
    for run in options.runs:
        found = study(run)
        content = json.loads(table.read_text()) if table.exists() else {}
        table.write_text(json.dumps({**content, run.name: found}, indent=1) + "\n")
        print(f"{run.name}\n| measure | tau: scores, fit | the first 10, 100 by the fit, % |\n| --- | --- | --- |")
        for name, row in found.items():
            firsts = f"{100 * row['first 10']:.2f}, {100 * row['first 100']:.2f}"
            print(f"| {name} | {row['scores']:.3f}, {row['fit']:.3f} | {firsts} |")


if __name__ == "__main__":
    main()
