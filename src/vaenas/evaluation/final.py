"""How good a trained network is: accuracy, calibration, confusion, and its latency on this machine."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from vaenas.networks.latency import timed

BINS = 15  # of confidence, for the calibration error (Guo et al. 2017)


@dataclass(frozen=True)
class Quality:
    """Of n images and k classes; shares in [0, 1]."""

    top1: float
    top5: float  # of fewer than five classes: of all, so 1
    per_class: list[float | None]  # top-1 of each class's images; None for a class without any
    calibration_error: float  # expected: mean |accuracy - confidence| over bins, weighted by their images
    confusion: list[list[int]]  # [label][guess]
    images: int


def quality(logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"]) -> Quality:
    """The figures of a network's answers."""
    n, k = logits.shape
    confidence, guessed = logits.softmax(-1).max(-1)
    right = guessed == labels
    five = (logits.topk(min(5, k)).indices == labels[:, None]).any(-1)
    confusion = (labels * k + guessed).bincount(minlength=k * k).reshape(k, k)
    per_class = [float(row[c] / row.sum()) if row.sum() else None for c, row in enumerate(confusion.double())]
    # |accuracy - confidence| of a bin times its images is the sum of (right - confidence) over them
    bins = (confidence * BINS).long().clamp(max=BINS - 1)
    gaps = torch.zeros(BINS, dtype=torch.float64).index_add(0, bins, right.double() - confidence.double())
    error = float(gaps.abs().sum()) / n
    return Quality(int(right.sum()) / n, int(five.sum()) / n, per_class, error, confusion.tolist(), n)


def latency(
    run: Callable[[Tensor], object], shape: tuple[int, int, int], batch: int, runs: int = 50
) -> dict[str, float]:
    """`batch`, `median`, `p95`: milliseconds of `run` on random images (batch, *shape), the first five left out."""
    images = torch.randn(batch, *shape)
    times = timed(lambda: run(images), runs)
    return {"batch": batch, "median": statistics.median(times), "p95": statistics.quantiles(times, n=20)[-1]}


@torch.inference_mode()
def logits_of(network: nn.Module, images: Tensor) -> Float[Tensor, "n k"]:
    """The network's answers to normalised images, in evaluation mode."""
    return network.eval()(images).float().cpu()
