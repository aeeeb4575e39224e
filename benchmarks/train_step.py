"""Ten training steps of a final network by `training/` against a bare PyTorch loop on the same network and batch.

Both sides: forward, loss, backward, clipping, SGD with Nesterov's momentum, by the recipe "quick". The loader is left
out on both: the batch is ready.

python benchmarks/train_step.py [--width 0.5] [--batch-size 64] [--image-size 32]      (a minute on 2 cores)
"""

import argparse
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from ratio import ratio
from torch import nn

from vaenas.networks import NetworkConfig
from vaenas.networks.shufflenet import ShuffleNetImageSpace
from vaenas.parallel import make_fabric
from vaenas.training.config import RECIPES
from vaenas.training.train import Training

STEPS = 10


class OneBatch:
    """Images that cost nothing to fetch."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return 1000 * len(self.labels)

    def stream(
        self, chunks: Sequence[torch.Tensor], transform: object, seed: int
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return itertools.repeat((self.images, self.labels))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()

    torch.manual_seed(0)
    recipe = replace(RECIPES["quick"], batch_size=options.batch_size, epochs=1000)
    space = ShuffleNetImageSpace(NetworkConfig(options.image_size, 3, 10, options.width, 10))
    images = torch.randn(options.batch_size, 3, options.image_size, options.image_size)
    labels = torch.randint(10, (options.batch_size,))
    fabric = make_fabric("cpu", "32-true")

    def network() -> nn.Module:
        return space.network(torch.arange(10) % 4)

    batch = OneBatch(images, labels)
    steps = Training(
        recipe=recipe, fabric=fabric, network=network(), images=batch, augment=lambda x, _: x,
        evaluate=lambda _: (0.0, 0.0), classes=10, rng=torch.Generator().manual_seed(0), log_interval=STEPS,
    ).run()  # fmt: skip

    bare = network().train()
    for module in bare.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    its_optimizer = torch.optim.SGD(bare.parameters(), 1e-3, 0.9, weight_decay=recipe.weight_decay, nesterov=True)

    def reference() -> None:
        for _ in range(STEPS):
            loss = nn.functional.cross_entropy(bare(images), labels, label_smoothing=recipe.label_smoothing)
            loss.backward()
            nn.utils.clip_grad_norm_(bare.parameters(), recipe.clip_norm)
            its_optimizer.step()
            its_optimizer.zero_grad(set_to_none=True)

    ratio("train_step", lambda: next(steps), reference, "a bare PyTorch loop", options.runs)


if __name__ == "__main__":
    main()
