"""Reads a run directory whole."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vaenas.documents import read_yaml
from vaenas.errors import UserError
from vaenas.records import (
    CellDrawing,
    Comparison,
    Generation,
    Metric,
    SearchResult,
    SequenceDrawing,
    Settings,
    Train,
    Update,
    Weights,
    checked_settings,
    read_drawing,
    read_metrics,
    read_result_of,
)  # fmt: skip

M = TypeVar("M", bound=Metric)
FIXED_SAMPLERS = ("uniform", "fair")  # these never learn, so their runs have no update records
OF_WEIGHTS = ("multinomial", "full")  # softmax(w) takes the sampler's place: no update records either


@dataclass(frozen=True)
class RunData:
    """What a run directory holds. Lists are in the order of the file; `None` is a file not written yet."""

    folder: Path
    config: dict[str, Any]
    settings: Settings
    train: list[Train]
    updates: list[Update]
    generations: list[Generation]
    weights: list[Weights]  # Algorithm 3 alone: softmax(w) and the network derived from it
    comparisons: list[Comparison]  # learned against uniform draws; the last one counts
    result: SearchResult | None
    drawing: SequenceDrawing | CellDrawing | None
    torn: bool  # the last line of metrics.jsonl was cut off while it was being written
    seconds: float | None  # at the last record
    against: tuple["RunData", ...] = ()  # other runs of Algorithm 3, to compare the diversity with

    @property
    def fixed_sampler(self) -> bool:
        """Whether the run's sampler never learns (uniform or fair)."""
        return self.settings.sampler in FIXED_SAMPLERS

    @property
    def gradient(self) -> bool:
        """Whether the run is of Algorithm 3, which has no evolution."""
        return self.settings.method == "gradient"

    @property
    def ranking_metric(self) -> str:
        """What the supernet's scores are, in words."""
        return "quadratic score" if self.settings.ranking_metric == "quadratic" else self.settings.ranking_metric

    @property
    def operations(self) -> list[str]:
        """The operations' names; numbered ones where `drawing.json` does not name them."""
        named = [operation.name for operation in self.drawing.operations] if self.drawing else []
        widest = max((len(row) for u in self.updates for row in u.probabilities), default=0)
        return named + [f"Operation {i}" for i in range(len(named), widest)]


def read_run(folder: Path) -> RunData:
    """Reads `config.yaml`, `metrics.jsonl` and, if they are there, `result.json` and `drawing.json`.

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
    found = read_result_of(SearchResult, result) if result.exists() else None
    records, torn = read_metrics(metrics, finished=found is not None)

    def of(kind: type[M]) -> list[M]:
        return [record for record in records if isinstance(record, kind)]

    settings = read_yaml(config)
    return RunData(
        folder, settings, checked_settings(settings, config), of(Train), of(Update), of(Generation), of(Weights),
        of(Comparison), found, read_drawing(drawing) if drawing.exists() else None, torn,
        max((record.seconds for record in records if record.seconds is not None), default=None),
    )  # fmt: skip
