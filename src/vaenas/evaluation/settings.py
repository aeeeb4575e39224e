"""Settings of ranking; without torch, so that the command line can list them at once."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from vaenas.ranges import Images

SupernetMetric = Literal["likelihood", "accuracy", "quadratic"]
RankingMetric = Literal["fused", SupernetMetric]


@dataclass(frozen=True)
class RankingSettings:
    """How an architecture is scored on the supernet."""

    metric: Annotated[
        RankingMetric,
        Field(
            description="of the supernet: likelihood of the right class, accuracy, or quadratic score (Brier); fused: "
            "the likelihood and training-free measures together"
        ),
    ] = "fused"
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

    @property
    def of_supernet(self) -> SupernetMetric:
        """What the supernet's scores are."""
        return "likelihood" if self.metric == "fused" else self.metric
