"""Scores of architectures by the weights that they share (Sec. 4.1)."""

from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor, nn

from vaenas.spaces.space import Population, Scores

Evaluate = Callable[[Population], Scores]
"""Population -> scores; a supernet evaluator and a tabular benchmark both are one."""

Batch = tuple[UInt8[Tensor, "_ c h w"], Int64[Tensor, "_"]]


def recalibrate(
    network: nn.Module, architecture: Int64[Tensor, "s"], batches: Iterable[Float32[Tensor, "..."]]
) -> None:
    """Batch norm statistics of this one architecture: the mean over `batches` (Guo et al. 2019, Sec. 3.4).

    The statistics that training gathers mix all architectures and fit none. Only batch norm is put in
    training mode, so dropout stays off; the network is left in evaluation mode.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
        norm.train()
    for images in batches:
        network(images, architecture)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval()
        norm.momentum = momentum


class SupernetEvaluator:
    """Top-1 accuracy on the ranking split, batch norm recalibrated on training images for each architecture.

    Args:
        network: the supernet; its weights and training mode are left as they were.
        recalibration: batches of training images, for the statistics.
        ranking: batches of images and labels held out of training, for the accuracy.
        prepare: uint8 images -> normalised floats on the network's device.
    """

    def __init__(
        self,
        network: nn.Module,
        recalibration: Sequence[Batch],
        ranking: Sequence[Batch],
        prepare: Callable[[UInt8[Tensor, "b c h w"]], Float32[Tensor, "b c h w"]],
    ) -> None:
        self.network, self.recalibration, self.ranking, self.prepare = network, recalibration, ranking, prepare

    @torch.no_grad()
    def __call__(self, population: Population) -> Scores:
        """Scores of (n, s): accuracies in [0, 1], shape (n,)."""
        was_training = self.network.training
        # Each architecture is a different network: nothing to vectorise over but its images.
        scores = [self._accuracy(architecture) for architecture in population]
        self.network.train(was_training)
        return torch.tensor(scores)

    def _accuracy(self, architecture: Int64[Tensor, "s"]) -> float:
        recalibrate(self.network, architecture, (self.prepare(images) for images, _ in self.recalibration))
        correct = seen = 0
        for images, labels in self.ranking:
            guessed = self.network(self.prepare(images), architecture).argmax(-1).cpu()
            correct, seen = correct + int((guessed == labels).sum()), seen + len(labels)
        return correct / seen
