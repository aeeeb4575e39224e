"""Scores of architectures by the weights that they share (Sec. 4.1)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor, nn

from vaenas.data.images import Batch
from vaenas.evaluation.settings import SupernetMetric
from vaenas.evaluation.trie import only_batch_norm_changes, trie_of, walk
from vaenas.networks.supernet import Supernet
from vaenas.spaces.space import Population, Scores

Evaluate = Callable[[Population], Scores]
"""Population -> scores; a supernet evaluator and a tabular benchmark both are one."""


@dataclass(eq=False)
class SupernetEvaluator:
    """Scores on the ranking split, with batch norm statistics of each architecture's own.

    The likelihood is exp(-cross entropy), the geometric mean of the probabilities that the network gives the right
    classes; the quadratic score is 1 - half the Brier score, Σ_c (p_c - [c is right])² (Brier 1950), averaged over the
    images. Unlike the accuracy both count how sure the network is of every image, so that fewer images tell
    architectures apart (docs/explanation/ranking.md).

    The statistics that training gathers mix all architectures and suit none, so they are taken anew: the mean over
    batches of training images (Guo et al. 2019, Sec. 3.4). Only batch norm trains for it: dropout is off.

    What architectures have in common from the input on is computed once, recalibration included: the population is
    walked as a trie. Memory grows with the open branches of one batch, not with the population.

    Args:
        network: the supernet; its weights, buffers and training mode are left as they were.
        recalibration: batches of training images, for the statistics. Without any, each ranking batch is normalised by
            its own.
        ranking: batches of images and labels held out of training, for the score.
        prepare: uint8 images -> normalised floats on the network's device.
        autocast: the precision that the network runs in.
        ranking_metric: what the score is.
    """

    network: Supernet
    recalibration: Sequence[Batch]
    ranking: Sequence[Batch]
    prepare: Callable[[UInt8[Tensor, "b c h w"]], Float32[Tensor, "b c h w"]]
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
    ranking_metric: SupernetMetric = "accuracy"

    @torch.no_grad()
    def __call__(self, population: Population) -> Scores:
        """Scores of (n, s), in [0, 1], shape (n,)."""
        sums = [0.0] * len(population)
        for row, logits, labels in self.logits(population):
            sums[row] += self._sum(logits, labels)
        means = torch.tensor(sums, dtype=torch.float64) / max(1, sum(len(labels) for _, labels in self.ranking))
        return (means.exp() if self.ranking_metric == "likelihood" else means).float()

    @torch.no_grad()
    def logits(self, population: Population) -> Iterator[tuple[int, Float[Tensor, "b classes"], Int64[Tensor, "b"]]]:
        """For each ranking batch and each row of the population, in any order: the row, its logits, the labels."""
        with only_batch_norm_changes(self.network) as norms, self.autocast():
            trie = [trie_of(self.network, population)]
            for images, _ in self.recalibration:
                for _ in walk(trie, self._inputs(images)):
                    pass
            if self.recalibration:
                for norm in norms:
                    norm.eval()
            for images, labels in self.ranking:
                for row, logits in walk(trie, self._inputs(images)):
                    yield row, logits, labels.to(logits.device)

    def _sum(self, logits: Float[Tensor, "b classes"], labels: Int64[Tensor, "b"]) -> float:
        """Over a batch: how many are right, the log-likelihood, or the quadratic scores."""
        if self.ranking_metric == "accuracy":
            return float((logits.argmax(-1) == labels).sum())
        if self.ranking_metric == "likelihood":
            return -float(nn.functional.cross_entropy(logits.float(), labels, reduction="sum"))
        p = logits.float().softmax(-1)
        errors = p - nn.functional.one_hot(labels, p.shape[-1])
        return len(labels) - 0.5 * float(errors.square().sum())

    def _inputs(self, images: UInt8[Tensor, "b c h w"]) -> Float32[Tensor, "b c h w"]:
        return self.prepare(images).contiguous(memory_format=torch.channels_last)
