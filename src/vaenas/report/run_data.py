"""Reads a run directory whole, and says what the page asks of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field

from vaenas.documents import between, checked, dotted, read_json, read_yaml
from vaenas.drawings import Drawing
from vaenas.errors import UserError, printable
from vaenas.records import (
    Comparison,
    Count,
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
M = TypeVar("M", bound=Metric)


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
class RunData:
    """What a run directory holds. Records are in the order of the file; `None` is a file not written yet."""

    name: str  # of the folder
    config: dict[str, Any]  # by dotted names
    settings: Settings
    result: SearchResult | None
    drawing: Drawing | None
    torn: bool  # the last line of metrics.jsonl was cut off while it was being written
    train: list[Train]
    updates: list[Update]
    weights: list[Weights]
    rounds: list[Generation] | list[Surrogate]  # as far as the search has come
    draws: Comparison | None
    seconds: float | None  # of the whole run, or at the last record

    @property
    def gradient(self) -> bool:
        """Whether the run is of Algorithm 3, which has no evolution."""
        return self.settings.method == "gradient"

    @property
    def sampler(self) -> str:
        """Its name, or how the architecture weights are learned where softmax(w) is the sampler."""
        mixes = self.gradient and self.settings.arch_update in ("two-path", "mixture")
        return (mixes and self.settings.arch_update) or self.settings.sampler or "unknown"


def read_run(folder: Path) -> RunData:
    """Reads `config.yaml`, `metrics.jsonl` and, if they are there, `result.json` and `drawing.json`.

    Of records of one kind and step that were written twice (a run resumed from an older checkpoint) the last counts.

    Raises:
        UserError: the folder or one of the first two files is missing, or a file does not follow its format.
    """
    if not folder.is_dir():
        raise UserError(f"no run folder at {folder}: give the folder that a search wrote, the one with metrics.jsonl")
    files = [folder / name for name in ("config.yaml", "metrics.jsonl", "result.json", "drawing.json")]
    config, metrics, result, drawing = files
    for file in (config, metrics):
        if not file.is_file():
            raise UserError(f"{folder} has no {file.name}: give a search's folder, or start the search first")
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

    def of(kind: type[M]) -> list[M]:
        return [record for record in records.values() if type(record) is kind]

    updates, weights = of(Update), of(Weights)
    sizes = {tuple(map(len, u.probabilities)) for u in updates}, {len(w.entropy_of_weights) for w in weights}
    if any(len(different) > 1 for different in sizes):
        raise UserError(f"{metrics}: the number of slots or operations changes between records; keep those of one run")
    known = [record.seconds for record in records.values() if record.seconds is not None]
    return RunData(
        name=printable(folder.resolve().name),
        config=settings,
        settings=checked(Settings, settings, str(config)),
        result=found,
        drawing=read_json(Drawing, drawing) if drawing.exists() else None,
        torn=torn,
        train=of(Train),
        updates=updates,
        weights=weights,
        rounds=of(Generation) or of(Surrogate),
        draws=next((c for c in of(Comparison)[-1:] if c.sampler and c.uniform), None),
        seconds=found.seconds if found else max(known, default=None),
    )
