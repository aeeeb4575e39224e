"""What a run shows on the terminal: bars while it goes on (plain lines where there is no terminal), and its outcome."""

import time
import weakref
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from vaenas.constraints import readable
from vaenas.documents import read_json
from vaenas.records import Record, SearchResult, TrainingResult
from vaenas.runs.directory import RunDirectory
from vaenas.runs.search_run import SearchRun
from vaenas.training.train_run import TrainRun

PLAIN_SECONDS = 5.0  # between plain lines of one phase


class Bars(Progress):
    """A bar for each phase, with the latest numbers beside the one that moves; `head` is a line to begin with."""

    def __init__(self, run: SearchRun | TrainRun, head: str) -> None:
        console = Console(markup=False)
        super().__init__(
            TextColumn("{task.description:12}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[numbers]}"), console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self.run: Any = weakref.proxy(run)  # rich's objects are a cycle, which must not keep the run and its lock
        skipped = run.data.skipped
        unreadable = [f"{len(skipped)} unreadable images are left out"] if skipped else []
        self._opening, self._last_line, self.numbers = [head, *unreadable, *run.data.notes], 0.0, dict[str, str]()

    def start(self) -> None:
        for text in self._opening:
            self.say(text)
        super().start()

    def say(self, text: str) -> None:
        """A line above the bars, whole."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def phase(self, name: str, done: int, total: int, force: bool = False) -> None:
        """Moves a bar, or prints a line: at once with `force` and at the end, else every `PLAIN_SECONDS`."""
        bars = {task.description: task.id for task in self.tasks}
        if name not in bars:
            bars[name] = self.add_task(name, numbers="")
        for bar in bars.values():
            self.update(bar, numbers="")
        self.update(bars[name], completed=done, total=total, numbers=self._shown())
        self.line(f"{name} {done}/{total}", force or done == total)

    def line(self, head: str, force: bool) -> None:
        now = time.monotonic()
        if not self.console.is_terminal and (force or now - self._last_line >= PLAIN_SECONDS):
            self._last_line = now
            self.say(f"[{self.run.session.seconds:7.1f} s] {head}  {self._shown()}")

    def _shown(self) -> str:
        return "  ".join(f"{key} {value}" for key, value in self.numbers.items())


class SearchProgress(Bars):
    """Shows a search's records."""

    run: SearchRun

    def __init__(self, run: SearchRun) -> None:
        self._accuracy = None
        least, most = readable(run.cost.cheapest("multiply_adds")[1]), readable(run.cost.most("multiply_adds"))
        limit = f", limit {run.constraints}" if str(run.constraints) else ""
        super().__init__(
            run,
            f"{run.config.space}, {run.config.method}: {run.space.slots} choices, {least} to {most} multiply-adds"
            f"{limit}; {run.data.name}: {len(run.images.training):,} images train, {len(run.images.ranking):,} rank; "
            f"device {run.trainer.fabric.device}",
        )

    def show(self, record: Record) -> None:
        values, run = record.values, self.run
        match record.kind:
            case "train":
                # Of the paths drawn lately, averaged over some twenty steps.
                before = values["accuracy"] if self._accuracy is None else self._accuracy
                self._accuracy = 0.95 * before + 0.05 * values["accuracy"]
                self.numbers["epoch"] = f"{run.search.step / run.trainer.steps_per_epoch:.1f}"
                self.numbers |= {"loss": f"{values['loss']:.3f}", "accuracy": f"{self._accuracy:.3f}"}
                if "epsilon" in values:
                    self.numbers["epsilon"] = f"{values['epsilon']:.2f}"
                self.phase("train", run.search.step, run.trainer.steps)
            case "evaluation":
                self.phase(values["of"], values["done"], values["total"])
            case "update":
                self.numbers |= {"ranked": f"{fmean(values['scores']):.3f}", "entropy": f"{values['entropy']:.3f}"}
                self.line("update", force=True)
            case "weights":
                self.numbers["entropy of w"] = f"{fmean(values['entropy_of_weights']):.3f}"
            case "generation" | "surrogate":
                self.numbers |= {"best": f"{values['best']:.4f}", "mean": f"{values['mean']:.4f}"}
                name = "generation" if record.kind == "generation" else "round"
                self.phase(f"{name}s", values[name] + 1, run.config.evolution.generations, force=True)
            case "comparison":
                metric, n = run.config.ranking.of_supernet, len(values["sampler"])
                self.say(
                    f"mean {metric} of {n} draws each on the final supernet: "
                    f"sampler {fmean(values['sampler']):.4f}, uniform {fmean(values['uniform']):.4f}",
                )


class TrainProgress(Bars):
    """Shows a training's records."""

    run: TrainRun

    def __init__(self, run: TrainRun) -> None:
        multiply_adds, params = readable(int(run.costs.multiply_adds)), readable(int(run.costs.params))
        super().__init__(
            run,
            f"{run.config.code}: {multiply_adds} multiply-adds, {params} parameters; {run.data.name}: "
            f"{len(run.training.images):,} images train, {len(run.test):,} test; device {run.training.fabric.device}",
        )

    def show(self, record: Record) -> None:
        values = record.values
        if record.kind == "train":
            self.numbers |= {
                "loss": f"{values['loss']:.3f}", "accuracy": f"{values['accuracy']:.3f}",
                "images/s": f"{values['images_per_second']:,.0f}", "loader": f"{100 * values['loader_share']:.0f} %",
            }  # fmt: skip
        elif "accuracy" in values:
            self.numbers["test"] = f"{values['accuracy']:.4f}"
        self.phase("train", self.run.training.step, self.run.training.steps, force=record.kind == "epoch")


def print_trained(directory: RunDirectory) -> None:
    """What a finished training came to and where its weights lie."""
    result = read_json(TrainingResult, directory.result_file)
    print(
        f"test accuracy {result.accuracy:.4f} (top 5 {result.top5:.4f}), {readable(result.flops)} multiply-adds, "
        f"{readable(result.params)} parameters\n"
        f"weights: {directory.path / 'weights.safetensors'}\nresult: {directory.result_file}",
    )


def print_result(directory: RunDirectory, report: Path) -> None:
    """The best architectures of a finished run and where everything lies."""
    result = read_json(SearchResult, directory.result_file)
    code = Column("architecture", overflow="fold")  # whole, so that it can be copied
    of_supernet = "likelihood" if result.ranking_metric == "fused" else result.ranking_metric
    table = Table("", code, of_supernet, "predicted", "multiply-adds", "parameters")
    others = [entry for entry in reversed(result.pareto) if entry.code != result.best.code]
    for name, entry in (("best", result.best), *(("Pareto", entry) for entry in others)):
        costs = readable(entry.flops), readable(entry.params)
        table.add_row(name, entry.code, f"{entry.score:.4f}", f"{entry.predicted_score:.4f}", *costs)
    Console(markup=False).print(table)
    truth = result.truth
    if truth is not None and truth.best is not None:
        tau = "not defined" if truth.kendall is None else f"{truth.kendall:.2f}"
        print(
            f"truth: {truth.best.code} {100 * truth.best.accuracy:.2f} %, number {truth.best.rank:,} of "
            f"{truth.architectures:,}; Kendall's tau of the supernet {tau}",
        )
    print(f"result: {directory.result_file}\nreport: {report}")
