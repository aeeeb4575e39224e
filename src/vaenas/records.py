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
    GetPydanticSchema,
    Strict,
    ValidationError,
    model_validator,
)
from pydantic_core import core_schema

from vaenas.documents import dotted
from vaenas.errors import UserError

MOST_BYTES = 2**23  # of one JSON text: parsed, it may take thirty times as much memory
MOST_KEPT = 2**24  # of records, likewise
SHORT = reprlib.Repr()
SHORT.maxstring = 80


def printable(text: str) -> str:
    """The text without what a terminal, XML or UTF-8 can't take, or what turns the direction of writing."""
    return "".join(c if c.isprintable() or c == "\xa0" else " " if c.isspace() else "\ufffd" for c in text)


def _at_most_100(keys: Any) -> Any:
    if isinstance(keys, dict) and len(keys) > 100:  # before each of them is an error of its own
        raise ValueError(f"must be at most 100 keys, {len(keys)} are given")
    return keys


def _between(low: float, high: float, slack: float = 0.0) -> GetPydanticSchema:
    """Checked by pydantic's core, as there may be millions, with a message of ours."""
    number = core_schema.float_schema(strict=True, allow_inf_nan=False, ge=low - slack, le=high + slack)
    said = f"must be a number in [{low:g}, {high:g}]"
    checked = core_schema.custom_error_schema(number, "between", custom_error_message=said)
    return GetPydanticSchema(lambda _source, _handler: checked)


Text = Annotated[str, Field(max_length=10_000), AfterValidator(printable)]
Label = Annotated[str, Field(max_length=100), AfterValidator(printable)]  # has its place in a figure
Count = Annotated[int, Field(ge=0, lt=2**63)]
Finite = Annotated[float, _between(-1e18, 1e18)]
Share = Annotated[float, _between(0, 1, 1e-6)]  # a softmax in float32 may sum to a little more than 1
# A diverged run still deserves a report: what is infinite, or as good as, counts as not a number.
Loss = Annotated[float, AfterValidator(lambda x: x if abs(x) < 1e100 else math.nan)]
T = TypeVar("T")
Many = Annotated[list[T], FailFast()]  # millions of wrong ones are one error
Few = Annotated[Many[T], Field(max_length=100)]
ByDraws = Annotated[dict[Annotated[int, Field(strict=False, ge=1, lt=2**63)], Share], BeforeValidator(_at_most_100)]
Environment = Annotated[dict[Label, Label | Count], BeforeValidator(_at_most_100)]  # see machine.environment
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
    ranking_metric: Annotated[Label, Field(max_length=40, alias="ranking.metric")] = "accuracy"
    surrogate: Annotated[Label, Field(alias="surrogate.kind")] = "none"
    max_flops: Annotated[Annotated[float, _between(0, 2**63)] | None, Field(alias="constraints.max_flops")] = None


# result.json: scores and accuracies are shares, FLOPs counts.


class Evaluation(Part):
    score: Share
    predicted_score: Finite
    flops: Count


class Architecture(Evaluation):
    architecture: Many[Count]
    code: Text
    params: Count


class Draws(Part):
    mean: Share
    std: Finite
    n: Count


class Compared(Part):
    sampler: Draws
    uniform: Draws


class Network(Part):
    image_size: Annotated[int, Field(ge=1, le=2**12)]
    image_channels: Annotated[int, Field(ge=1, le=2**12)]
    classes: Annotated[int, Field(ge=1, le=10**6)]
    width: Annotated[float, _between(0, 2**12)]
    layers: Annotated[int, Field(ge=1, le=1000)]


class TrueBest(Part):
    code: Text
    accuracy: Share
    rank: Count


class Sample(Part):
    scores: Many[Share]
    truth: Many[Share]

    @model_validator(mode="after")
    def _agree(self) -> "Sample":
        if len(self.scores) != len(self.truth):
            raise ValueError(f"has {len(self.scores)} scores for {len(self.truth)} truths, must have one for each")
        return self


class TrueDraws(Part):
    epoch: Finite
    mean: Share | None
    n: Count


class Truth(Part):
    """What a table says of a search that never saw it; None where it says nothing."""

    table: Text
    measured: Text
    architectures: Count
    optimum: Share
    mean: Share
    uniform_best_of: ByDraws
    best: TrueBest | None
    kendall: Finite | None
    spearman: Finite | None
    kendall_top: Finite | None
    sample: Sample
    draws: Many[TrueDraws]
    best_of: ByDraws | None


class SearchResult(Part):
    space: Label
    ranking_metric: Label
    network: Network
    best: Architecture
    pareto: Many[Architecture]
    evaluated: Count
    evaluations: Many[Evaluation]
    draws: Compared | None
    truth: Truth | None
    seconds: Finite
    version: Label
    environment: Environment = {}


class Images(Part):
    training: Count
    test: Count


class TrainingResult(Part):
    accuracy: Share
    top5: Share
    params: Count
    flops: Count
    images: Images
    environment: Environment = {}


# metrics.jsonl: entropy and KL are in nats, seconds those of the run so far.


class Kind(Part):
    kind: Label


class Metric(Part):
    step: Count
    seconds: Finite | None = None


class Train(Metric):
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
    epoch: Finite
    scores: Many[Share]
    learned: Many[bool]
    entropy: Finite
    kl: Loss | None = None  # this and the next two: the VAE alone
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
    generation: Count
    best: Share
    mean: Share


class Comparison(Metric):
    sampler: Many[Share]
    uniform: Many[Share]


METRICS: dict[str, type[Metric]] = {
    "train": Train, "weights": Weights, "update": Update, "generation": Generation, "comparison": Comparison
}  # fmt: skip

# drawing.json: blocks in stages, or cells as graphs.


class Operation(Part):
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
    name: Label
    nodes: Few[Slot | Layer]
    edges: Annotated[Many[Annotated[tuple[Count, Count], Strict(False)]], Field(max_length=400)]

    @model_validator(mode="after")
    def _forward(self) -> "Cell":
        n = len(self.nodes)
        for source, target in self.edges:
            if not source < target < n:
                raise ValueError(f"has an edge from node {source} to {target}; edges lead to a later one of {n}")
        return self


class Drawing(Part):
    title: Label
    operations: Few[Operation]

    @property
    def slots(self) -> list[Slot]:
        """All coloured blocks."""
        return []

    @model_validator(mode="after")
    def _known(self) -> "Drawing":
        if len(self.slots) > 2000:
            raise ValueError(f"has {len(self.slots)} slots, must have at most 2000")
        most = len(self.operations) - 1
        for slot in self.slots:
            if slot.operation > most:
                raise ValueError(f"slot {slot.slot} has operation {slot.operation}, must be at most {most}")
        return self


class SequenceDrawing(Drawing):
    input: Label  # a shape
    before: Few[Label]  # fixed layers
    groups: Few[Group]
    after: Few[Label]

    @property
    def slots(self) -> list[Slot]:
        return [slot for group in self.groups for slot in group.slots]


class CellDrawing(Drawing):
    cells: Annotated[Many[Cell], Field(max_length=8)]

    @property
    def slots(self) -> list[Slot]:
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
    return _checked(Settings, dotted(config), str(path))


M = TypeVar("M", bound=Part)


def _checked(model: type[M], content: Any, where: str) -> M:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        name = SHORT.repr(".".join(map(str, first["loc"]))) + " " if first["loc"] else ""
        said = re.sub(r"^Value error, ", "", re.sub(r"^\w+ should ", "must ", first["msg"]))
        said = said.replace("a valid dictionary or instance of ", "a JSON object for ")
        if first["type"] == "missing":
            said = "is missing"
        elif said.startswith("must"):
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
