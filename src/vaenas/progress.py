"""What a search shows on the terminal: bars while it runs, a table at the end; plain lines when not a terminal."""

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from vaenas.constraints import readable
from vaenas.data.images import ImageData
from vaenas.records import SearchResult, TrainingResult, read_result_of
from vaenas.runs.directory import RunDirectory
from vaenas.runs.search_run import SearchRun
from vaenas.search.record import Record
from vaenas.training.train_run import TrainRun

PLAIN_SECONDS = 5.0  # between plain lines of one phase


class Bars:
    """A bar for each phase, with the latest numbers beside the one that moves."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self.console = Console(markup=False)
        self.live = self.console.is_terminal
        self.numbers: dict[str, str] = {}
        self.bars = Progress(
            TextColumn("{task.description:12}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[numbers]}"), console=self.console, disable=not self.live,
        )  # fmt: skip
        self._seconds = seconds
        self._tasks: dict[str, Any] = {}
        self._last_line = 0.0

    def phase(self, name: str, done: int, total: int, force: bool = False) -> None:
        shown = "  ".join(f"{key} {value}" for key, value in self.numbers.items())
        if name not in self._tasks:
            self._tasks[name] = self.bars.add_task(name, total=total, numbers="")
        # The numbers stand beside the bar that moves.
        for other, task in self._tasks.items():
            if other != name:
                self.bars.update(task, numbers="")
        self.bars.update(self._tasks[name], completed=done, total=total, numbers=shown)
        self.line(f"{name} {done}/{total}", force=force or done == total)

    def line(self, head: str, force: bool = False) -> None:
        now = time.monotonic()
        if self.live or not (force or now - self._last_line >= PLAIN_SECONDS):
            return
        self._last_line = now
        shown = "  ".join(f"{key} {value}" for key, value in self.numbers.items())
        self.console.print(f"[{self._seconds():7.1f} s] {head}  {shown}", highlight=False, markup=False, soft_wrap=True)


class SearchProgress:
    """Shows a search's records; a context manager."""

    def __init__(self, run: SearchRun) -> None:
        self.run, self.bars = run, Bars(lambda: run.session.seconds)
        self.console, self.numbers = self.bars.console, self.bars.numbers
        self._accuracy: float | None = None

    def __enter__(self) -> "SearchProgress":
        run = self.run
        images, ranked = len(run.images.training), len(run.images.ranking)
        least, most = (readable(n) for n in _flops_range(run))
        self.console.print(
            f"{run.config.space}, {run.config.method}: {run.space.slots} choices, {least} to {most} multiply-adds"
            + (f", limit {run.constraints}" if str(run.constraints) else "")
            + f"; {run.data.name}: {images:,} images train, {ranked:,} rank; device {run.trainer.fabric.device}",
            highlight=False,
            soft_wrap=True,
        )
        _print_notes(self.console, run.data)
        self.bars.bars.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bars.bars.stop()

    def show(self, record: Record) -> None:
        """Moves the bars, or prints a line."""
        values, run = record.values, self.run
        match record.kind:
            case "train":
                epoch = run.search.step / run.trainer.steps_per_epoch
                self.numbers |= {
                    "epoch": f"{epoch:.1f}",
                    "loss": f"{values['loss']:.3f}",
                    "accuracy": f"{self._mean_accuracy(values['accuracy']):.3f}",
                }
                if "epsilon" in values:
                    self.numbers["epsilon"] = f"{values['epsilon']:.2f}"
                self.bars.phase("train", run.search.step, run.trainer.steps)
            case "evaluation":
                self.bars.phase(values["of"], values["done"], values["total"])
            case "update":
                mean = sum(values["scores"]) / len(values["scores"])
                self.numbers |= {"ranked": f"{mean:.3f}", "entropy": f"{values['entropy']:.3f}"}
                self.bars.line("update", force=True)
            case "weights":
                entropies = values["entropy_of_weights"]
                self.numbers["entropy of w"] = f"{sum(entropies) / len(entropies):.3f}"
            case "generation" | "surrogate":
                self.numbers |= {"best": f"{values['best']:.4f}", "mean": f"{values['mean']:.4f}"}
                of, done = ("generations", "generation") if record.kind == "generation" else ("rounds", "round")
                self.bars.phase(of, values[done] + 1, run.config.evolution.generations, force=True)
            case "comparison":
                means = {name: f"{sum(values[name]) / len(values[name]):.4f}" for name in ("sampler", "uniform")}
                self.console.print(
                    f"mean {run.config.ranking.metric} of {len(values['sampler'])} draws each on the final supernet: "
                    f"sampler {means['sampler']}, uniform {means['uniform']}",
                    highlight=False,
                    soft_wrap=True,
                )

    def _mean_accuracy(self, accuracy: float) -> float:
        """Training accuracy of the paths drawn lately, averaged over some twenty steps."""
        self._accuracy = accuracy if self._accuracy is None else 0.95 * self._accuracy + 0.05 * accuracy
        return self._accuracy


class TrainProgress:
    """Shows a training's records; a context manager."""

    def __init__(self, run: TrainRun) -> None:
        self.run, self.bars = run, Bars(lambda: run.session.seconds)

    def __enter__(self) -> "TrainProgress":
        run = self.run
        flops, params = readable(int(run.costs.multiply_adds)), readable(int(run.costs.params))
        self.bars.console.print(
            f"{run.config.code}: {flops} multiply-adds, {params} parameters; {run.data.name}: "
            f"{len(run.training.images):,} images train, {len(run.test):,} test; device {run.training.fabric.device}",
            highlight=False,
            soft_wrap=True,
        )
        _print_notes(self.bars.console, run.data)
        self.bars.bars.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bars.bars.stop()

    def show(self, record: Record) -> None:
        """Moves the bar, or prints a line."""
        values = record.values
        if record.kind == "train":
            self.bars.numbers |= {
                "loss": f"{values['loss']:.3f}",
                "accuracy": f"{values['accuracy']:.3f}",
                "images/s": f"{values['images_per_second']:,.0f}",
                "loader": f"{100 * values['loader_share']:.0f} %",
            }
        elif "accuracy" in values:
            self.bars.numbers["test"] = f"{values['accuracy']:.4f}"
        training = self.run.training
        self.bars.phase("train", self.run.state.step, training.steps, force=record.kind == "epoch")


def _print_notes(console: Console, data: ImageData) -> None:
    """What was left out of the images, and what else is said of them."""
    unreadable = [f"{len(data.skipped)} unreadable images are left out"] if data.skipped else []
    for note in (*unreadable, *data.notes):
        console.print(note, highlight=False, markup=False, soft_wrap=True)


def print_trained(directory: RunDirectory) -> None:
    """What a finished training came to and where its weights lie."""
    result, console = read_result_of(TrainingResult, directory.result_file), Console(markup=False)
    console.print(
        f"test accuracy {result.accuracy:.4f} (top 5 {result.top5:.4f}), {readable(result.flops)} "
        f"multiply-adds, {readable(result.params)} parameters\n"
        f"weights: {directory.path / 'weights.safetensors'}\nresult: {directory.result_file}",
        highlight=False,
        soft_wrap=True,
    )


def print_result(directory: RunDirectory, report: Path) -> None:
    """The best architectures of a finished run and where everything lies."""
    console, result = Console(markup=False), read_result_of(SearchResult, directory.result_file)
    code = Column("architecture", overflow="fold")  # whole, so that it can be copied
    table = Table("", code, result.ranking_metric, "predicted_score", "multiply-adds", "parameters")
    best = result.best
    others = [entry for entry in reversed(result.pareto) if entry.code != best.code]
    for name, entry in (("best", best), *(("front", entry) for entry in others)):
        costs = readable(entry.flops), readable(entry.params)
        table.add_row(name, entry.code, f"{entry.score:.4f}", f"{entry.predicted_score:.4f}", *costs)
    console.print(table)
    truth = result.truth
    if truth is not None and truth.best is not None:
        known = truth.best
        tau = truth.kendall
        console.print(
            f"truth: {known.code} {100 * known.accuracy:.2f} %, number {known.rank:,} of "
            f"{truth.architectures:,}; Kendall's tau of the supernet "
            f"{'not defined' if tau is None else f'{tau:.2f}'}",
            highlight=False,
            soft_wrap=True,
        )
    for what, where in (("result", directory.result_file), ("report", report)):
        console.print(f"{what}: {where}", highlight=False, soft_wrap=True)


def _flops_range(run: SearchRun) -> tuple[int, int]:
    return run.cost.cheapest("multiply_adds")[1], run.cost.most("multiply_adds")
