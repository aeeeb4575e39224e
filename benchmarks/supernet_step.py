"""A supernet step (sampling, forward, backward, clipping, optimizer) against the stand-alone network's.

Each pair trains the same architecture: the supernet's path, and the final network of that architecture alone in a
plain PyTorch loop with the same loss, clipping and SGD.

python benchmarks/supernet_step.py [--space shufflenet] [--width 0.25] [--batch-size 128]      (a minute on 2 cores)
"""

import argparse
import statistics

import torch
from lightning_fabric import Fabric
from ratio import ratio, seconds
from torch import nn

from vaenas.networks import NetworkConfig, space_class, space_names
from vaenas.samplers.sampler import BLOCK
from vaenas.samplers.vae import VAESampler
from vaenas.search import one_shot
from vaenas.search.one_shot import OneShot
from vaenas.search.settings import EvolutionSettings, SamplerTraining, SupernetTraining, SurrogateSettings
from vaenas.search.supernet_training import SupernetTrainer


class OneBatch:
    """Images that cost nothing to fetch: the benchmark leaves data out on both sides."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.images, self.labels


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--space", choices=space_names(), default="shufflenet")
    parser.add_argument("--width", type=float, help="default: the space's")
    parser.add_argument("--layers", type=int, help="default: the space's; shufflenet: 20")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--runs", type=int, default=60)
    options = parser.parse_args()

    torch.manual_seed(0)
    rng = torch.Generator().manual_seed(0)
    kind = space_class(options.space)
    layers = options.layers or (20 if options.space == "shufflenet" else kind.default_layers)
    image_space = kind(NetworkConfig(options.image_size, 3, 10, options.width or kind.default_width, layers))
    images = torch.randn(options.batch_size, 3, options.image_size, options.image_size)
    labels = torch.randint(10, (options.batch_size,))
    fabric = Fabric(accelerator="cpu", devices=1)
    # A schedule that never ends, and epochs of one step.
    training = SupernetTraining(10**6, options.batch_size, learning_rate=0.05)

    def sgd(network: nn.Module) -> torch.optim.SGD:
        return torch.optim.SGD(
            network.parameters(), training.learning_rate, training.momentum, weight_decay=training.weight_decay
        )

    space, supernet = image_space.space, image_space.supernet()
    trainer = SupernetTrainer(supernet, training, OneBatch(images, labels), lambda x, _: x, fabric, rng)
    search = OneShot(
        space=space, trainer=trainer, sampler=VAESampler(space, rng), evaluate=lambda p: p[:, 0].float(), rng=rng,
        is_feasible=lambda p: torch.ones(len(p), dtype=torch.bool),
        # all architectures but the first from the VAE: the slower half of eq. 5
        training=SamplerTraining(vae_interval=10**7, epsilon_inc=1.0, epsilon_limit=1.0),
        surrogate=SurrogateSettings(), evolution=EvolutionSettings(),
    )  # fmt: skip
    steps = one_shot.run(search)

    # The next architecture is known once the step before has drawn its block; the reference is built for it.
    next(steps)
    alone: list[tuple[nn.Module, torch.optim.SGD]] = []

    def prepare() -> None:
        final = supernet.subnet(search.ahead.rows[0])
        final.train()
        alone[:] = [(final, sgd(final))]
        standalone()  # momentum buffers and caches exist on both sides

    def standalone() -> None:
        final, its_optimizer = alone[0]
        logits = final(images)
        loss = nn.functional.cross_entropy(logits, labels, label_smoothing=training.label_smoothing)
        loss.backward()
        nn.utils.clip_grad_norm_(final.parameters(), training.clip_norm)
        its_optimizer.step()
        its_optimizer.zero_grad(set_to_none=True)
        float(loss.detach())

    # A block of architectures is drawn every BLOCK steps, by the timed steps hardly ever: its share is added.
    drawing = statistics.median(seconds(lambda: search.sampler.sample(BLOCK, rng)) for _ in range(9)) / BLOCK
    reference = "the stand-alone network's step"
    ratio("supernet_step", lambda: next(steps), standalone, reference, options.runs, prepare, spread=drawing)


if __name__ == "__main__":
    main()
