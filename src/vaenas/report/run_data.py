"""Reads a run directory whole, and says what the page asks of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import Field

from vaenas.documents import between, checked, dotted, read_json, read_yaml
from vaenas.drawings import Drawing
from vaenas.errors import UserError, printable
from vaenas.records import (
    Comparison,
    Count,
    Draws,
    Generation,
    Label,
    Metric,
    Part,
    SearchResult,
    Surrogate,
    Train,
    Update,
    Weights,
    read_metrics,
)  # fmt: skip

MOST_KEPT = 2**24  # bytes of records as JSON: parsed, they may take thirty times as much memory


class Settings(Part):
    """What the page asks of the settings, by their dotted names."""

    space: Label = "unknown"
    method: Label = "one-shot"
    sampler: Label | None = None
    seed: Count | None = None
    arch_update: Annotated[Label | None, Field(alias="gradient.arch_update")] = None
    ranking_metric: Annotated[Label, Field(max_length=40, alias="ranking.metric")] = "accuracy"
    max_flops: Annotated[Annotated[float, between(0, 2**63)] | None, Field(alias="constraints.max_flops")] = None


@dataclass(frozen=True)
class Comparisons:
    """Learned against uniform draws on the final supernet, and the single scores if they were kept."""

    learned: Draws
    uniform: Draws
    scores: tuple[Sequence[float], Sequence[float]] | None

    @property
    def difference(self) -> float:
        """Learned - uniform, of the means."""
        return self.learned.mean - self.uniform.mean

    @property
    def half(self) -> float | None:
        """Half of its 95 % interval, Welch's errors with the normal's 1.96; None where one side has one score."""
        one, other = standard_error(self.learned), standard_error(self.uniform)
        return None if one is None or other is None else 1.96 * math.hypot(one, other)


def standard_error(draws: Draws) -> float | None:
    """Of the mean; None with fewer than two scores."""
    return draws.std / math.sqrt(draws.n) if draws.n > 1 else None


def _summary(scores: Sequence[float]) -> Draws:
    """The standard deviation is the sample's (n - 1)."""
    std = float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0
    return Draws(mean=float(np.mean(scores)), std=std, n=len(scores))


M = TypeVar("M", bound=Metric)


@dataclass(frozen=True)
class RunData:
    """What a run directory holds. Records are in the order of the file; `None` is a file not written yet."""

    folder: Path
    config: dict[str, Any]  # by dotted names
    settings: Settings
    records: Sequence[Metric]
    result: SearchResult | None
    drawing: Drawing | None
    torn: bool  # the last line of metrics.jsonl was cut off while it was being written
    against: tuple["RunData", ...] = ()  # other runs of Algorithm 3, to compare the diversity with

    def of(self, kind: type[M]) -> list[M]:
        return [record for record in self.records if type(record) is kind]

    @property
    def train(self) -> list[Train]:
        return self.of(Train)

    @property
    def updates(self) -> list[Update]:
        return self.of(Update)

    @property
    def weights(self) -> list[Weights]:
        return self.of(Weights)

    @property
    def rounds(self) -> Sequence[Generation | Surrogate]:
        """Of the evolutionary search, or of the search by a surrogate, as far as it has come."""
        return self.of(Generation) or self.of(Surrogate)

    @property
    def by_surrogate(self) -> bool:
        return bool(self.of(Surrogate))

    @property
    def draws(self) -> Comparisons | None:
        """The last comparison with uniform draws, from its record, else from the result."""
        for record in self.of(Comparison)[-1:]:
            if record.sampler and record.uniform:
                kept = record.sampler, record.uniform
                return Comparisons(_summary(kept[0]), _summary(kept[1]), kept)
        told = self.result.draws if self.result else None
        return Comparisons(told.sampler, told.uniform, None) if told and told.sampler.n and told.uniform.n else None

    @property
    def of_weights(self) -> bool:
        """Whether softmax(w) is the sampler."""
        return self.gradient and self.settings.arch_update in ("two-path", "mixture")

    @property
    def sampler(self) -> str:
        return (self.of_weights and self.settings.arch_update) or self.settings.sampler or "unknown"

    @property
    def fixed_sampler(self) -> bool:
        """Whether it never learns, so that there are no update records."""
        return self.sampler in ("uniform", "fair")

    @property
    def gradient(self) -> bool:
        """Whether the run is of Algorithm 3, which has no evolution."""
        return self.settings.method == "gradient"

    @property
    def ranking_metric(self) -> str:
        """What the supernet's scores are, in words."""
        return "quadratic score" if self.settings.ranking_metric == "quadratic" else self.settings.ranking_metric

    @property
    def learned_share(self) -> float:
        """Of the ranked draws."""
        return float(np.mean([flag for u in self.updates for flag in u.learned]))

    @property
    def probability_sizes(self) -> list[tuple[int, ...]]:
        """Of each update: how many operations each slot has."""
        return [tuple(map(len, u.probabilities)) for u in self.updates]

    @property
    def compared(self) -> dict[str, tuple[list[Weights], list[Update]]]:
        """This run's records and those of `against`, by the sampler, and the folder where that is not enough."""
        runs = (self, *self.against)
        samplers = [run.sampler for run in runs]
        names = [s if samplers.count(s) == 1 else f"{s}, {run.name}" for s, run in zip(samplers, runs, strict=True)]
        return {name: (run.weights, run.updates) for name, run in zip(names, runs, strict=True)}

    @property
    def edges_agree(self) -> bool:
        """Whether the number of edges stays the same in each of the runs compared."""
        return all(len({len(w.entropy_of_weights) for w in weights}) == 1 for weights, _ in self.compared.values())

    @property
    def operations(self) -> list[str]:
        """The operations' names; numbered ones where `drawing.json` does not name them."""
        named = [operation.name for operation in self.drawing.operations] if self.drawing else []
        widest = max((len(row) for u in self.updates for row in u.probabilities), default=0)
        return named + [f"Operation {i}" for i in range(len(named), widest)]

    @property
    def name(self) -> str:
        """The folder's."""
        return printable(self.folder.resolve().name)

    @property
    def seconds(self) -> float | None:
        """Of the whole run, or at the last record."""
        known = [record.seconds for record in self.records if record.seconds is not None]
        return self.result.seconds if self.result else max(known, default=None)


def read_run(folder: Path) -> RunData:
    """Reads `config.yaml`, `metrics.jsonl` and, if they are there, `result.json` and `drawing.json`.

    Of records of one kind and step that were written twice (a run resumed from an older checkpoint) the last counts.

    Raises:
        UserError: the folder or one of the first two files is missing, or a file does not follow its format.
    """
    if not folder.is_dir():
        raise UserError(f"no run folder at {folder}: give the folder that a search wrote, the one with metrics.jsonl")
    config, metrics, result, drawing = (
        folder / name for name in ("config.yaml", "metrics.jsonl", "result.json", "drawing.json")
    )
    for file in (config, metrics):
        if not file.is_file():
            raise UserError(
                f"{folder} has no {file.name}: give the folder that a search wrote, or start the search first"
            )
    settings = dotted(read_yaml(config))
    found = read_json(SearchResult, result) if result.exists() else None
    records: dict[tuple[str, int, int | None], Metric] = {}
    kept = 0
    for number, record in read_metrics(metrics, finished=found is not None):
        number_of = getattr(record, "generation", getattr(record, "round", None))
        records[record.kind, record.step, number_of] = record
        kept += len(record.model_dump_json())
        if kept > MOST_KEPT:
            raise UserError(
                f"{metrics}, line {number}: more than {MOST_KEPT >> 20} MiB of records up to here, too many for a "
                "report; leave lines out, or search with a larger --log-interval"
            )
    with metrics.open("rb") as file:
        file.seek(max(0, metrics.stat().st_size - 1))
        torn = found is None and file.read(1) not in (b"", b"\n")
    return RunData(
        folder, settings, checked(Settings, settings, str(config)), list(records.values()), found,
        read_json(Drawing, drawing) if drawing.exists() else None, torn,
    )  # fmt: skip
