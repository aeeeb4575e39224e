"""What an untrained network says of its architecture: measures that need no training, each written from its paper.

Three are read off the features of a few images, for whole populations: an untrained supernet is walked as a trie, so
that architectures share what they begin with. Two need gradients, and take the architectures one by one.
"""

from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from vaenas.evaluation.trie import Node, batch_norms, only_batch_norm_changes, trie_of, walk
from vaenas.networks.supernet import Supernet
from vaenas.spaces.space import Population, Scores

IMAGES = 16  # of a measure; an activation's pattern over them is a number below 2 ** IMAGES

_CONVOLUTIONS = {torch.ops.aten.convolution}
_ACTIVATIONS = {
    getattr(torch.ops.aten, name)
    for name in ("relu", "relu_", "silu", "silu_", "gelu", "hardswish", "hardswish_", "elu", "leaky_relu", "hardtanh")
}


class Read(NamedTuple):
    """What an architecture's features say, as far as the steps have run."""

    expressivity: float
    meco: float
    patterns: Bool[Tensor, "2**b"]  # which there are


@dataclass(eq=False)
class TrainingFree:
    """Measures of populations on an untrained supernet; higher is better.

    Args:
        network: its weights as they are initialised; they and its mode are left as they were.
        images: (b, *input_shape) with b <= `IMAGES`, normalised, on the network's device.
        labels: (b,) of the images; ZiCo alone asks for them.
    """

    network: Supernet
    images: Float[Tensor, "b c h w"]
    labels: Int64[Tensor, "b"]

    @torch.no_grad()
    def features(self, population: Population) -> dict[str, Scores]:
        """Expressivity, MeCo and SWAP of (n, s), (n,) each.

        expressivity: Σ over the feature maps between layers or cells of the entropy, in nats, of their principal
            components' shares of the variance (AZ-NAS, Lee & Ham 2024, arXiv:2403.19232).
        meco: Σ over convolutions of the smallest eigenvalue of the Pearson correlations between their channels (MeCo,
            Jiang et al. 2023, NeurIPS; theirs are of one random image).
        swap: how many different patterns there are among the network's activations, a pattern being which of the images
            a neuron is above 0 for (SWAP-NAS, Peng et al. 2024, arXiv:2403.04161).
        """
        found = [Read(0.0, 0.0, torch.zeros(0, dtype=torch.bool))] * len(population)
        nothing = Read(0.0, 0.0, torch.zeros(2 ** len(self.images), dtype=torch.bool, device=self.images.device))
        x = self.images.contiguous(memory_format=torch.channels_last)
        with only_batch_norm_changes(self.network):  # each batch norm by the images' own statistics
            for row, (_, read) in walk([trie_of(self.network, population)], (x, nothing), self._run):
                found[row] = read
        columns = zip(*((read.expressivity, read.meco, int(read.patterns.sum())) for read in found), strict=True)
        return {
            name: torch.tensor(column, dtype=torch.float32)
            for name, column in zip(("expressivity", "meco", "swap"), columns, strict=True)
        }

    def _run(self, node: Node, state: tuple[Any, Read]) -> tuple[Any, Read]:
        x, read = state
        with _Taps() as taps:
            x = node.run(x)
        features, seen = self.network.feature_map(x), read.patterns.clone()
        more = expressivity(features) if features is not None and features.dim() == 4 else 0.0
        for numbers in taps.patterns:
            seen[numbers] = True
        return x, Read(read.expressivity + more, read.meco + sum(taps.smallest), seen)

    def gradients(self, population: Population) -> dict[str, Scores]:
        """synflow and ZiCo of (n, s), (n,) each.

        synflow: log Σ |θ ∂R/∂θ|, where R is the sum of the outputs for an image of ones with all weights made positive
            (Tanaka et al. 2020, arXiv:2006.05467). Batch norm is left out.
        zico: Σ over weight tensors of log Σ E|g| / std |g|, of their gradients g over two halves of the images (ZiCo,
            Li et al. 2023, arXiv:2301.11300).
        """
        rows = [(self._synflow(row), self._zico(row)) for row in population]
        columns = torch.tensor(rows, dtype=torch.float64).float().reshape(-1, 2).t()
        return dict(zip(("synflow", "zico"), columns, strict=True))

    @cached_property
    def _positive(self) -> Supernet:
        """With positive weights. A batch norm that has seen nothing does nothing in evaluation mode."""
        network = deepcopy(self.network).double().eval()
        with torch.no_grad():
            for weight in network.parameters():
                weight.abs_()
        return network

    @cached_property
    def _by_batch(self) -> Supernet:
        """A copy whose batch norms take each batch's own statistics, and change by it."""
        network = deepcopy(self.network).eval()
        for norm in batch_norms(network):
            norm.train()
        return network

    def _synflow(self, architecture: Int64[Tensor, "s"]) -> float:
        ones = torch.ones_like(self.images[:1], dtype=torch.float64)
        gradients = _gradients(self._positive, self._positive(ones, architecture).sum())
        return float(torch.stack([(weight * g).abs().sum() for weight, g in gradients]).sum().log())

    def _zico(self, architecture: Int64[Tensor, "s"]) -> float:
        found: list[list[Tensor]] = []
        for images, labels in zip(self.images.chunk(2), self.labels.chunk(2), strict=True):
            loss = nn.functional.cross_entropy(self._by_batch(images, architecture), labels)
            found.append([g.abs() for _, g in _gradients(self._by_batch, loss)])
        total = 0.0
        for halves in zip(*found, strict=True):
            mean, std = torch.stack(halves).mean(0), torch.stack(halves).std(0)
            kept = std > 0
            if kept.any():
                total += float((mean[kept] / std[kept]).sum().log())
        return total


def _gradients(network: nn.Module, of: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Weights of convolutions and linear layers that `of` depends on, and its gradients."""
    weights = [weight for weight in network.parameters() if weight.dim() > 1]
    gradients = torch.autograd.grad(of, weights, allow_unused=True)
    return [(weight.detach(), g) for weight, g in zip(weights, gradients, strict=True) if g is not None]


class _Taps(TorchDispatchMode):
    """Reads convolutions and activations as they are computed, be they modules or functions."""

    def __init__(self) -> None:
        super().__init__()
        self.smallest, self.patterns = [], []  # of each convolution the eigenvalue; of each activation the patterns

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        y = func(*args, **(kwargs or {}))
        if func.overloadpacket in _CONVOLUTIONS:
            self.smallest.append(meco(y))
        elif func.overloadpacket in _ACTIVATIONS:
            self.patterns.append(patterns(y))
        return y


def expressivity(features: Float[Tensor, "b c h w"]) -> float:
    """The entropy, in nats, of what share of the variance each principal component has."""
    centred = _by_channel(features)
    if centred.shape[0] > centred.shape[1]:  # the same eigenvalues but for zeros
        centred = centred.t()
    share = torch.linalg.eigvalsh(centred @ centred.t()).clamp(min=0)
    return float(torch.special.entr(share / share.sum().clamp(min=1e-30)).sum())


def meco(features: Float[Tensor, "b c h w"]) -> float:
    """The smallest eigenvalue of the correlations between channels, in [0, 1]; 0 where they are dependent."""
    centred = _by_channel(features)
    if centred.shape[0] >= centred.shape[1]:
        return 0.0
    normed = centred / centred.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return max(0.0, float(torch.linalg.eigvalsh(normed @ normed.t())[0]))


def _by_channel(features: Float[Tensor, "b c h w"]) -> Float[Tensor, "c b*h*w"]:
    rows = features.transpose(0, 1).flatten(1).double()
    return rows - rows.mean(1, keepdim=True)


def patterns(activations: Float[Tensor, "b *d"]) -> Int64[Tensor, "m"]:
    """Of each neuron which images activate it, as a number: bit i for image i."""
    active = (activations.flatten(1) > 0).float()
    powers = 2.0 ** torch.arange(len(active), device=active.device)
    return (powers @ active).long()
