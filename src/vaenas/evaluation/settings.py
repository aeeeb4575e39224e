"""Settings of ranking; without torch, so that the command line can list them at once."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from vaenas.ranges import Images

RankingMetric = Literal["accuracy", "likelihood", "quadratic"]


@dataclass(frozen=True)
class RankingSettings:
    """How an architecture is scored on the supernet."""

    metric: Annotated[
        RankingMetric,
        Field(description="accuracy, likelihood of the right class, or quadratic score (Brier)"),
    ] = "likelihood"
    images: Annotated[
        Images | None, Field(description="held out of training to rank by (default: 1000, at most a fifth of all)")
    ] = None
    recalibration_images: Annotated[
        int | None,
        Field(
            ge=0, le=10**9,
            description="training images for batch norm before each evaluation; 0 = each ranking batch by itself "
            "(default: 256, or all if they are fewer)",
        ),
    ] = None  # fmt: skip
