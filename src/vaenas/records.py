"""What runs write and reports read, in one schema: records, `metrics.jsonl`, `result.json`.

As files they come from outside: whoever reads one goes through `documents.read_json` or `read_metrics`, and nothing
behind checks again. Keys that no model names are left out.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, FailFast, Field, model_validator

from vaenas.documents import LARGEST_JSON, between, from_json, regular_file
from vaenas.errors import UserError, printable


@dataclass(frozen=True)
class Record:
    """One thing that happened: `kind` is evaluation or one of `METRICS`; values are JSON."""

    kind: str
    values: dict[str, Any]


def _at_most_100(keys: Any) -> Any:
    if isinstance(keys, dict) and len(keys) > 100:  # before each of them is an error of its own
        raise ValueError(f"must be at most 100 keys, {len(keys)} are given")
    return keys


Text = Annotated[str, Field(max_length=10_000), AfterValidator(printable)]
Label = Annotated[str, Field(max_length=100), AfterValidator(printable)]  # has its place in a figure
Count = Annotated[int, Field(ge=0, lt=2**63)]
Finite = Annotated[float, between(-1e18, 1e18)]
Share = Annotated[float, between(0, 1, 1e-6)]  # a softmax in float32 may sum to a little more than 1
# A diverged run still deserves a report: what is infinite, or as good as, counts as not a number.
Loss = Annotated[float, AfterValidator(lambda x: x if abs(x) < 1e100 else math.nan)]
T = TypeVar("T")
Many = Annotated[list[T], FailFast()]  # millions of wrong ones are one error
Few = Annotated[Many[T], Field(max_length=100)]
ByDraws = Annotated[dict[Annotated[int, Field(strict=False, ge=1, lt=2**63)], Share], BeforeValidator(_at_most_100)]
Environment = Annotated[dict[Label, Label | Count], BeforeValidator(_at_most_100)]  # see machine.environment
Row = Annotated[Many[Share], Field(min_length=1, max_length=32)]


class Part(BaseModel, strict=True):
    """Of a file. A float may be written as an integer, nothing else is taken for what it is not."""


def _one_for_each(some: str, others: str) -> Any:
    """Checks that two lists of a part have one length."""

    def check(part: Part) -> Part:
        n, m = len(getattr(part, some)), len(getattr(part, others))
        if n != m:
            raise ValueError(f"{others!r} has {m} values for {n} {some}, must have one for each")
        return part

    return model_validator(mode="after")(check)


# metrics.jsonl: entropy and KL are in nats, seconds those of the run so far.


class Metric(Part):
    kind: Label
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
    draws: Many[Text] = Field(default_factory=list)  # codes drawn after it, where a table will judge them

    _agree = _one_for_each("scores", "learned")


class Generation(Metric):
    """Of the evolutionary search."""

    generation: Count
    best: Share
    mean: Share


class Surrogate(Metric):
    """A round of the search by a ridge surrogate: initial and uniform draws, at last what it predicts to be best."""

    round: Count
    best: Share
    mean: Share


class Comparison(Metric):
    sampler: Many[Share]
    uniform: Many[Share]


METRICS: dict[str, type[Metric]] = {
    model.__name__.lower(): model for model in (Train, Weights, Update, Generation, Surrogate, Comparison)
}


def read_metrics(path: Path, finished: bool = True) -> Iterator[tuple[int, Metric]]:
    """The number of each line of `metrics.jsonl` whose kind `METRICS` names, and the record in it.

    Args:
        finished: else the last line may be cut off, by a kill or as it is being written: then it is left out.

    Raises:
        UserError: it can't be read, or a line does not follow the format: names the place, its value and the limit.
    """
    with regular_file(path) as file:
        for number, line in enumerate(iter(lambda: file.readline(LARGEST_JSON + 1), b""), start=1):
            if not line.strip():
                continue
            if not finished and len(line) <= LARGEST_JSON and not line.endswith(b"\n"):
                return
            try:
                model = METRICS.get(from_json(Metric, line).kind)
                if model is not None:
                    yield number, from_json(model, line)
            except ValueError as error:
                raise UserError(f"{path}, line {number}: {error}; fix or remove it") from None


# result.json: scores and accuracies are shares, FLOPs counts.


class Evaluation(Part):
    score: Share
    predicted_score: Finite
    flops: Count


class Architecture(Evaluation):
    architecture: Many[Count]
    code: Text
    params: Count
    latency_ms: Finite | None = None


class Draws(Part):
    mean: Share
    std: Finite
    n: Count


class Compared(Part):
    sampler: Draws
    uniform: Draws


class NetworkSize(Part):
    image_size: Annotated[int, Field(ge=1, le=2**12)]
    image_channels: Annotated[int, Field(ge=1, le=2**12)]
    classes: Annotated[int, Field(ge=1, le=10**6)]
    width: Annotated[float, between(0, 2**12)]
    layers: Annotated[int, Field(ge=1, le=1000)]


class Correlations(Part):
    """With the truth; the last of its top tenth alone. None where it is not defined."""

    kendall: Finite | None
    spearman: Finite | None
    kendall_top: Finite | None


class TrueBest(Part):
    code: Text
    accuracy: Share
    rank: Count


class Sample(Part):
    scores: Many[Share]
    truth: Many[Share]

    _agree = _one_for_each("scores", "truth")


class TrueDraws(Part):
    step: Count
    epoch: Finite
    mean: Share | None
    n: Count


class Truth(Correlations):
    """What a table says of a search that never saw it; None where it says nothing."""

    table: Text
    measured: Text
    architectures: Count
    optimum: Share
    mean: Share
    uniform_best_of: ByDraws
    best: TrueBest | None
    surrogate: Correlations  # of a ridge surrogate to the sample's scores
    sample: Sample
    draws: Many[TrueDraws]
    best_of: ByDraws | None


class Latency(Part):
    device: Text
    error: Finite


class Images(Part):
    training: Count
    ranking: Count | None = None  # of a search
    test: Count | None = None  # of a training
    test_split: dict[str, Any] | None
    skipped: Many[Text]
    notes: Many[Text]


class Result(Part):
    """Of a search or a training."""

    space: Label
    network: NetworkSize
    seed: Count
    images: Images
    seconds: Finite
    version: Label
    environment: Environment


class SearchResult(Result):
    kind: Literal["search"] = "search"
    method: Label
    sampler: Label | None
    ranking_metric: Label
    best: Architecture
    pareto: Many[Architecture]
    evaluated: Count
    evaluations: Many[Evaluation]
    draws: Compared | None
    truth: Truth | None
    latency: Latency | None


class TrainingResult(Result):
    kind: Literal["training"] = "training"
    code: Text
    recipe: Label
    accuracy: Share
    top5: Share
    params: Count
    flops: Count
    epochs: Count
    search: Text | None
