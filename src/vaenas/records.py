"""What the files of a run hold: `result.json`, `metrics.jsonl`, `drawing.json`, the settings that a report tells.

They come from outside: they are read here, whole, and nothing behind checks them again. Keys that no model names are
left out.
"""

import json
import math
import re
import reprlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    Strict,
    ValidationError,
    model_validator,
)

from vaenas.errors import UserError

MOST_BYTES = 2**24  # of one JSON text: parsed, it may take thirty times as much memory
MOST_KEPT = 2**25  # of records, likewise
SHORT = reprlib.Repr()
SHORT.maxstring = 80


def printable(text: str) -> str:
    """The text without what a terminal, XML or UTF-8 can't take, or what turns the direction of writing."""
    return "".join(c if c.isprintable() or c == "\xa0" else " " if c.isspace() else "\ufffd" for c in text)


def _between(low: float, high: float, slack: float = 0.0) -> AfterValidator:
    def check(x: float) -> float:
        if not low - slack <= x <= high + slack:  # nor NaN
            raise ValueError(f"must be a number in [{low:g}, {high:g}]")
        return x

    return AfterValidator(check)


Text = Annotated[str, Field(max_length=10_000), AfterValidator(printable)]
Label = Annotated[str, Field(max_length=100), AfterValidator(printable)]  # has its place in a figure
Count = Annotated[int, Field(ge=0, lt=2**63)]
Finite = Annotated[float, _between(-1e18, 1e18)]
Share = Annotated[float, _between(0, 1, 1e-6)]  # a softmax in float32 may sum to a little more than 1
# A diverged run still deserves a report: what is infinite, or as good as, counts as not a number.
Loss = Annotated[float, AfterValidator(lambda x: x if abs(x) < 1e100 else math.nan)]
T = TypeVar("T")
Many = Annotated[list[T], FailFast()]  # millions of wrong ones are one error
Row = Annotated[Many[Share], Field(min_length=1, max_length=32)]


class Part(BaseModel):
    """Of a file. A float may be written as an integer, nothing else is taken for what it is not."""

    model_config = ConfigDict(strict=True)


class Settings(Part):
    """What a report tells of `config.yaml`."""

    space: Label = "unknown"
    method: Label = "one-shot"
    sampler: Label = "unknown"
    seed: Count | None = None
    rank_by: Annotated[Label, Field(max_length=40)] = "accuracy"
    smoothing: Label = "none"
    max_flops: Annotated[float, _between(0, 2**63)] | None = None


class Architecture(Part):
    """Score and worth are shares in [0, 1]; FLOPs are counts."""

    architecture: Many[Count]
    code: Text
    score: Share
    worth: Finite
    flops: Count
    params: Count
    latency_ms: Finite | None = None


class Evaluation(Part):
    """One dot of the figure of the front."""

    score: Share
    worth: Finite
    flops: Count


class Draws(Part):
    """Mean and standard deviation of n scores."""

    mean: Share
    std: Finite
    n: Count


class Compared(Part):
    """Draws of the sampler and uniform ones, on the same final weights."""

    sampler: Draws
    uniform: Draws


class Geometry(Part):
    """Of the networks that were searched or trained."""

    image_size: Annotated[int, Field(ge=1, le=2**12)]
    image_channels: Annotated[int, Field(ge=1, le=2**12)]
    classes: Annotated[int, Field(ge=1, le=10**6)]
    width: Annotated[float, _between(0, 2**12)]
    layers: Annotated[int, Field(ge=1, le=1000)]


class HeldOut(Part):
    """How a test part was split from images that have none of their own."""

    share: Share
    seed: Count
    images: Count
    per_class: Many[Count]
    sha256: Label


class Images(Part):
    """How many there were; a search ranks on some, a training tests on some."""

    training: Count
    ranking: Count | None = None
    test: Count | None = None
    test_split: HeldOut | None
    skipped: Many[Text]


class TrueBest(Part):
    """Of what a search evaluated, its favourite that stands in the table."""

    code: Text
    accuracy: Share
    rank: Count


class Sample(Part):
    """Architectures of the table, ranked on the final supernet."""

    scores: Many[Share]
    truth: Many[Share]

    @model_validator(mode="after")
    def _agree(self) -> "Sample":
        if len(self.scores) != len(self.truth):
            raise ValueError(f"has {len(self.scores)} scores for {len(self.truth)} truths, must have one for each")
        return self


class TrueDraws(Part):
    """The true mean of n draws after an update."""

    step: Count
    epoch: Finite
    mean: Share | None
    n: Count


def _few(x: Any) -> Any:
    if isinstance(x, dict) and len(x) > 100:
        raise ValueError("must have at most 100 keys")
    return x


ByDraws = Annotated[dict[Annotated[int, Field(strict=False, ge=1, lt=2**63)], Share], BeforeValidator(_few)]


class Correlations(Part):
    """Of the sample's scores with the truth; None where they are not defined."""

    kendall: Finite | None
    spearman: Finite | None
    kendall_top: Finite | None


class Truth(Correlations):
    """What a table says of a search that never saw it."""

    table: Text
    measured: Text
    architectures: Count
    optimum: Share
    mean: Share
    uniform_best_of: ByDraws
    best: TrueBest | None
    smoothed: Correlations
    sample: Sample
    draws: Many[TrueDraws]
    best_of: ByDraws | None


class Latency(Part):
    """Where it was measured, and how far the sum of the parts is from the whole."""

    device: Label
    error: Finite


class SearchResult(Part):
    """`result.json` of a search."""

    space: Label
    method: Label
    sampler: Label
    seed: Count
    measure: Label
    geometry: Geometry
    best: Architecture
    pareto: Many[Architecture]
    evaluated: Count
    evaluations: Many[Evaluation]
    draws: Compared | None
    truth: Truth | None
    latency: Latency | None
    images: Images
    seconds: Finite
    version: Label


class TrainingResult(Part):
    """`result.json` of a training; the accuracies are shares."""

    space: Label
    code: Text
    recipe: Label
    geometry: Geometry
    accuracy: Share
    top5: Share
    params: Count
    flops: Count
    epochs: Count
    seed: Count
    search: Text | None
    images: Images
    seconds: Finite
    version: Label


class Metric(Part):
    """A line of `metrics.jsonl`. Entropy and KL are in nats, seconds those of the run so far."""

    step: Count
    seconds: Finite | None = None


class Train(Metric):
    """A training step."""

    epoch: Finite
    loss: Loss
    accuracy: Share
    epsilon: Share | None = None  # of Algorithm 2
    search_loss: Loss | None = None  # of Algorithm 3


class Weights(Metric):
    """Algorithm 3: softmax(w), and the network derived from it."""

    epoch: Finite
    entropy_of_weights: Annotated[Many[Finite], Field(min_length=1)]
    distinct_so_far: Count
    parameter_free: Share
    params: Count


class Update(Metric):
    """Of the sampler; the three that may be missing are the VAE's alone."""

    epoch: Finite
    scores: Many[Share]
    learned: Many[bool]
    entropy: Finite
    kl: Loss | None = None
    active_units: Count | None = None
    reconstruction: Share | None = None
    probabilities: Annotated[Many[Row], Field(max_length=1000)]

    @model_validator(mode="after")
    def _agree(self) -> "Update":
        if len(self.learned) != len(self.scores):
            lengths = f"{len(self.learned)} values for {len(self.scores)} scores"
            raise ValueError(f"'learned' has {lengths}, must have one for each")
        return self


class Generation(Metric):
    """A round of the last stage."""

    generation: Count
    best: Share
    mean: Share


class Comparison(Metric):
    """Scores of learned and of uniform draws."""

    sampler: Many[Share]
    uniform: Many[Share]


class Kind(Part):
    """What opens a line of `metrics.jsonl`; those of kinds that have no model are passed over."""

    kind: Label


METRICS: dict[str, type[Metric]] = {
    "train": Train, "weights": Weights, "update": Update, "generation": Generation, "comparison": Comparison
}  # fmt: skip


class Operation(Part):
    """How a drawing names one."""

    symbol: Label
    name: Label


class Slot(Part):
    """A coloured block: the operation's index, and the slot's number below it."""

    slot: Count
    operation: Count


class Layer(Part):
    """A grey box."""

    text: Label


class Group(Part):
    """Blocks in a row, and the shape that comes out of them."""

    name: Label
    output: Label
    slots: Many[Slot]


class Cell(Part):
    """A graph; edges lead from a node to a later one."""

    name: Label
    nodes: Annotated[Many[Slot | Layer], Field(max_length=100)]
    edges: Annotated[Many[Annotated[tuple[Count, Count], Strict(False)]], Field(max_length=400)]

    @model_validator(mode="after")
    def _forward(self) -> "Cell":
        for source, target in self.edges:
            if not source < target < len(self.nodes):
                raise ValueError(
                    f"has an edge from node {source} to {target}; edges lead from a node to a later one of "
                    f"{len(self.nodes)}"
                )
        return self


class Drawing(Part):
    """`drawing.json`: what is the same in both forms."""

    title: Label
    operations: Annotated[Many[Operation], Field(max_length=100)]

    @property
    def slots(self) -> list[Slot]:
        """The coloured blocks."""
        return []

    @model_validator(mode="after")
    def _known(self) -> "Drawing":
        if len(self.slots) > 2000:
            raise ValueError(f"must have at most 2000 slots, has {len(self.slots)}")
        most = len(self.operations) - 1
        for slot in self.slots:
            if slot.operation > most:
                raise ValueError(f"slot {slot.slot} has operation {slot.operation}, must be at most {most}")
        return self


class SequenceDrawing(Drawing):
    """Blocks in stages; `before` and `after` are fixed layers, `input` a shape."""

    input: Label
    before: Annotated[Many[Label], Field(max_length=100)]
    groups: Annotated[Many[Group], Field(max_length=100)]
    after: Annotated[Many[Label], Field(max_length=100)]

    @property
    def slots(self) -> list[Slot]:
        """Of all groups."""
        return [slot for group in self.groups for slot in group.slots]


class CellDrawing(Drawing):
    """Cells as graphs."""

    cells: Annotated[Many[Cell], Field(max_length=8)]

    @property
    def slots(self) -> list[Slot]:
        """Of all cells."""
        return [node for cell in self.cells for node in cell.nodes if isinstance(node, Slot)]


R = TypeVar("R", SearchResult, TrainingResult)


def read_result(path: Path) -> SearchResult | TrainingResult:
    """`result.json` of a search or, if it tells an accuracy, of a training.

    Raises:
        UserError: it can't be read, or does not follow the format: names the file, the key, its value and the limit.
    """
    content = _whole(path)
    return _checked(TrainingResult if "accuracy" in content else SearchResult, content, str(path))


def read_result_of(kind: type[R], path: Path) -> R:
    """`result.json` of a search, or of a training; raises as `read_result` does, and where it is of the other."""
    result = read_result(path)
    if not isinstance(result, kind):
        raise UserError(f"{path}: a {type(result).__name__}, where a {kind.__name__} is needed; give another folder")
    return result


def read_drawing(path: Path) -> SequenceDrawing | CellDrawing:
    """`drawing.json`; raises as `read_result` does."""
    return checked_drawing(_whole(path), str(path))


def checked_drawing(content: dict[str, Any], where: str) -> SequenceDrawing | CellDrawing:
    """A drawing from anywhere; `where` opens the message of the `UserError`."""
    return _checked(CellDrawing if "cells" in content else SequenceDrawing, content, where)


def read_metrics(path: Path, finished: bool) -> tuple[list[Metric], bool]:
    """The records of `metrics.jsonl` that have a model, and whether its last line was cut off (in a run that goes on).

    Records of one kind and step that were written twice (a run resumed from a checkpoint older than its last line)
    count once, as they were written last.

    Raises:
        UserError: as `read_result`, with the line; or there is more in it than memory should hold.
    """
    latest: dict[tuple[str, int, int | None], Metric] = {}
    kept = 0
    for number, line in enumerate(_chunks(path, lambda file: file.readline(MOST_BYTES + 1)), start=1):
        where = f"{path}, line {number}"
        if not line.strip():
            continue
        try:
            content = _object(line, path, number)
        except UserError:
            # A line without its line break is one being written now, or cut by a kill: not the user's mistake.
            if line.endswith(b"\n") or finished:
                raise
            return list(latest.values()), True
        kind = _checked(Kind, content, where).kind
        if kind not in METRICS:
            continue
        record = _checked(METRICS[kind], content, where)
        latest[kind, record.step, getattr(record, "generation", None)] = record
        kept += len(record.model_dump_json())
        if kept > MOST_KEPT:
            raise UserError(
                f"{where}: more than {MOST_KEPT >> 20} MiB of records up to here, too many for a report; leave lines "
                "out, or search with a larger --log-interval"
            )
    return list(latest.values()), False


def checked_settings(config: dict[str, Any], path: Path) -> Settings:
    """What a report needs of a run's `config.yaml`, read already; raises as `read_result` does."""
    return _checked(Settings, config, str(path))


M = TypeVar("M", bound=Part)


def _checked(model: type[M], content: Any, where: str) -> M:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        name = SHORT.repr(".".join(map(str, first["loc"]))) + " " if first["loc"] else ""
        said = re.sub(r"^Value error, |^\w+ should (?=be|have)", "", first["msg"])
        said = said.replace("a valid dictionary or instance of ", "a JSON object for ")
        if first["type"] == "missing":
            said = "is missing"
        elif first["type"] != "value_error":
            said = f"is {SHORT.repr(first['input'])}, must {said}"
        elif said.startswith("must be"):
            said = f"is {SHORT.repr(first['input'])}, {said}"
        raise UserError(f"{where}: {name}{said}; fix or remove it") from None


def _whole(path: Path) -> dict[str, Any]:
    return _object(b"".join(_chunks(path, lambda file: file.read(MOST_BYTES + 1))), path)


def _object(text: bytes, path: Path, line: int = 0) -> dict[str, Any]:
    where = f"{path}, line {line}" if line else str(path)
    try:
        content = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        at = line or error.lineno
        raise UserError(f"{path}, line {at}: not valid JSON ({error.msg}); fix or remove it") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, a key twice, too many digits or brackets
        raise UserError(f"{where}: not valid JSON ({error}); fix or remove it") from None
    if not isinstance(content, dict):
        raise UserError(f"{where}: {SHORT.repr(content)} is not a JSON object; fix or remove it")
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{SHORT.repr(name)} stands in it twice")
    return found


def _chunks(path: Path, read: Callable[[BinaryIO], bytes]) -> Iterator[bytes]:
    """What `read` gives of a regular file, call by call, until that is nothing."""
    if not path.is_file():
        raise UserError(f"{path}: there is no such file, or it is not a regular one")
    try:
        with path.open("rb") as file:
            while chunk := read(file):
                if len(chunk) > MOST_BYTES:
                    raise UserError(f"{path}: it has more than {MOST_BYTES >> 20} MiB in one piece; fix or remove it")
                yield chunk
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); fix or remove it") from None
