"""How should a supernet rank? Rank correlations with the truth, on the trained supernets of finished searches.

    python experiments/ranking.py RUN [RUN ...]           of `vaenas search --table`, such as sampling_matters'

For each run the final supernet scores its sample of the table anew: by accuracy and by likelihood, with 0 (each ranking
batch by its own statistics) to 1,024 images to recalibrate batch norm. Printed and written to
results/ranking/table.json: Kendall's tau with the truth of the scores and of the ridge surrogate to them, over the
sample and over its true top tenth; seconds for an architecture. Then the last stage is run on the same supernet with
the run's number of evaluations, by the scores (evolution) and by the fit to uniform draws: truth and rank of the
answer.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from torch import Generator

from vaenas.evaluation.rank import kendall_tau
from vaenas.evaluation.settings import SupernetMetric
from vaenas.evaluation.supernet import SupernetEvaluator
from vaenas.runs.config import SearchConfig
from vaenas.runs.directory import RunDirectory
from vaenas.runs.search_run import SearchRun
from vaenas.runs.settings import make
from vaenas.search.evolution import Evolution
from vaenas.search.one_shot import OneShot
from vaenas.search.surrogate import RidgeSurrogate, SurrogateSearch

RESULTS = Path(__file__).parent / "results" / "ranking"
IMAGES = (0, 64, 256, 1024)
SEEDS = 3  # of the last stage


def study(run: Path, generations: int | None) -> dict[str, Any]:
    """Of one finished run."""
    search = SearchRun(make(SearchConfig, {}, run / "config.yaml"), RunDirectory.open(run, "search"))
    evaluate, training = search.saved_scores.evaluate, search.images.training
    assert isinstance(evaluate, SupernetEvaluator)
    assert search.truth is not None
    sample = search.truth.sample(search.config.table.sample)
    truth = search.truth.task.truth(sample)
    top = truth >= truth.quantile(0.9)
    rows = {}
    for measure in get_args(SupernetMetric):
        for images in IMAGES:
            evaluate.ranking_metric, evaluate.recalibration = measure, training.batches(images)
            began = time.monotonic()
            scores = evaluate(sample)
            seconds = (time.monotonic() - began) / len(sample)
            fit = RidgeSurrogate(search.truth.space, sample, scores)(sample)
            taus = [kendall_tau(x, y) for x, y in ((scores, truth), (fit, truth), (scores[top], truth[top]))]
            taus.append(kendall_tau(fit[top], truth[top]))
            names = ("scores", "fit", "scores_top", "fit_top")
            rows[f"{measure}, {images} images"] = {**dict(zip(names, taus, strict=True)), "seconds": seconds}
    evaluate.ranking_metric, evaluate.recalibration = "likelihood", training.batches(search.images.recalibration)
    of_run = generations or search.config.evolution.generations
    found = {name: last_stage(search, name == "fit", of_run) for name in ("evolution", "fit")}
    return {"rows": rows, "last stage": {"generations": of_run, **found}}


def last_stage(search: SearchRun, surrogate: bool, generations: int) -> list[dict[str, Any]]:
    """Truth and rank of the answer, from uniform seeds, for several random seeds."""
    one_shot, truth = search.search, search.truth
    assert isinstance(one_shot, OneShot)
    assert truth is not None
    settings, kind = replace(one_shot.evolution, generations=generations), SurrogateSearch if surrogate else Evolution
    every, found = truth.task.truth(truth.task.population), []
    for seed in range(SEEDS):
        rng = Generator().manual_seed(seed)
        initial = one_shot.space.uniform(settings.population, rng)
        evaluate = search.saved_scores.evaluate
        state = kind(one_shot.space, settings, evaluate, one_shot.is_feasible, rng, initial)
        for _ in state.run():
            pass
        predicted, population = state.predicted(), state.evaluated.population
        accuracy = float(truth.task.truth(population[predicted.argmax()][None])[0])
        found.append({"accuracy": accuracy, "rank": 1 + int((every > accuracy).sum())})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--generations", type=int, help="of the last stage (default: the run's)")
    options = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    table = RESULTS / "table.json"
    for run in options.runs:
        found = study(run, options.generations)
        content = json.loads(table.read_text()) if table.exists() else {}  # another process may have written meanwhile
        content[run.name] = found
        table.write_text(json.dumps(content, indent=1) + "\n")
        print(f"{run.name}\n| scores, recalibration | tau: scores, fit | top tenth: scores, fit | seconds |")
        print("| --- | --- | --- | --- |")
        for name, row in content[run.name]["rows"].items():
            both = f"{row['scores']:.3f}, {row['fit']:.3f} | {row['scores_top']:.3f}, {row['fit_top']:.3f}"
            print(f"| {name} | {both} | {row['seconds']:.2f} |")
        stage = content[run.name]["last stage"]
        print(f"last stage, {stage['generations']} generations")
        for name in ("evolution", "fit"):
            print(f"{name}: " + ", ".join(f"{100 * f['accuracy']:.2f} (rank {f['rank']})" for f in stage[name]))


if __name__ == "__main__":
    main()
