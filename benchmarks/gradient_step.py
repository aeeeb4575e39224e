"""A step of Algorithm 3 against the stand-alone network's: time and peak memory of the three ways to see the supernet.

    python benchmarks/gradient_step.py [--width 8] [--layers 5] [--batch-size 64]            (some minutes on 2 cores)

Three ways: the sampled path alone (VAE), ProxylessNAS's two paths, DARTS's full mixture. A step is lines 3 and 4: one
of the architecture weights and one of the network weights. Two references, each of the same architecture built as a
final network: "alone", one training step of it in a plain PyTorch loop; "alone + w", the same and one forward and
backward pass more, on another batch, that computes no gradient of its weights, which is what any step of w has to do.

Peak memory is of tensors: weights, momentum and w of the whole network, and what the step holds at most beside them,
counted by torch's allocator (CUDA) or its profiler (CPU). The last line is JSON with "ratio" (time of the path's step /
"alone + w") and "memory" (peak of the path / peak of the stand-alone step).
"""

import argparse
import gc
import json
import platform
import statistics
from collections.abc import Callable

import torch
from lightning_fabric import Fabric
from ratio import seconds
from supernet_step import OneBatch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from vaenas.networks import NetworkConfig, space_class, space_names
from vaenas.samplers.categorical import MultinomialSampler
from vaenas.samplers.vae import VAESampler
from vaenas.search import gradient
from vaenas.search.architecture_weights import ArchitectureWeights
from vaenas.search.gradient import GradientSearch
from vaenas.search.settings import ArchUpdate, SamplerTraining, SupernetTraining, SurrogateSettings
from vaenas.search.supernet_training import SupernetTrainer

RATE, SMOOTHING, CLIP = 0.05, 0.1, 5.0
WAYS: dict[ArchUpdate, str] = {
    "path": "VAE, the path alone",
    "two-path": "multinomial, two paths",
    "mixture": "full mixture",
}


def sgd(network: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(network.parameters(), RATE, momentum=0.9, weight_decay=3e-5)


def peak_bytes(step: Callable[[], object]) -> int:
    """The most memory that `step` holds at any moment, beyond what is held before."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    held = most = 0
    for event in profiler.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


def held_bytes(*holders: nn.Module | torch.optim.Optimizer) -> int:
    """Weights, statistics and what optimizers keep of them."""
    states = [holder.state_dict() for holder in holders]
    tensors = [t for state in states for t in state.values() if isinstance(t, torch.Tensor)]
    tensors += [t for state in states for kept in state.get("state", {}).values() for t in kept.values()]
    return sum(t.nbytes for t in tensors if isinstance(t, torch.Tensor))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--space", choices=space_names(), default="nasnet")
    parser.add_argument("--width", type=float, default=8)
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--runs", type=int, default=12)
    options = parser.parse_args()

    fabric = Fabric(accelerator="auto", devices=1)
    sizes = options.image_size, 3, 10, options.width, options.layers
    image_space = space_class(options.space)(NetworkConfig(*sizes))
    space = image_space.space
    images = torch.randn(options.batch_size, 3, options.image_size, options.image_size, device=fabric.device)
    labels = torch.randint(10, (options.batch_size,), device=fabric.device)
    batch = OneBatch(images, labels)

    def make(way: ArchUpdate) -> GradientSearch:
        torch.manual_seed(0)
        rng = torch.Generator().manual_seed(0)
        # A schedule that never ends, and epochs of one step.
        settings = SupernetTraining(10**6, options.batch_size, RATE)
        trainer = SupernetTrainer(image_space.supernet(), settings, batch, lambda x, _: x, fabric, rng)
        w = ArchitectureWeights(space, 3e-3, way, batch, trainer)
        return GradientSearch(
            space=space, trainer=trainer, rng=rng, weights=w, draws=2, evaluate=lambda p: p[:, 0].float(),
            sampler=VAESampler(space, rng) if way == "path" else MultinomialSampler(space, w.values),
            is_feasible=lambda p: torch.ones(len(p), dtype=torch.bool),
            training=SamplerTraining(vae_interval=10**7), surrogate=SurrogateSettings(),
        )  # fmt: skip

    def alone(architecture: torch.Tensor) -> tuple[Callable[[], object], Callable[[], object], int]:
        """One step of the final network in a plain loop, the pass that a step of w needs, and what is held."""
        final = image_space.network(architecture).to(fabric.device)
        optimizer = sgd(final)

        def loss() -> torch.Tensor:
            return nn.functional.cross_entropy(final(images), labels, label_smoothing=SMOOTHING)

        def train() -> None:
            value = loss()
            value.backward()
            nn.utils.clip_grad_norm_(final.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            float(value.detach())

        gate = torch.ones((), device=fabric.device, requires_grad=True)

        def search_pass() -> None:
            for parameter in final.parameters():
                parameter.requires_grad_(False)
            logits = final(images * gate)  # a gradient has to come all the way down, as w's does
            value = nn.functional.cross_entropy(logits, labels, label_smoothing=SMOOTHING)
            value.backward()
            for parameter in final.parameters():
                parameter.requires_grad_(True)
            float(value.detach())

        train()  # momentum exists
        search_pass()
        return train, search_pass, held_bytes(final, optimizer)

    rows = {}
    for way, words in WAYS.items():
        search = make(way)
        steps = gradient.run(search)
        next(steps)
        next(steps)
        times, peaks = [], []
        for run in range(options.runs):
            # The architecture of the next step: drawn ahead for a sampler, else any.
            if way == "path":
                architecture = search.ahead.rows[0]
            else:
                architecture = space.uniform(1, torch.Generator().manual_seed(run))[0]
            train, search_pass, _ = alone(architecture)
            ours = seconds(lambda: next(steps))  # noqa: B023  # called at once
            times.append((ours, seconds(train), seconds(search_pass)))
            if run < 5:
                if way == "path":
                    architecture = search.ahead.rows[0]
                train, _, theirs = alone(architecture)
                ours = held_bytes(search.trainer.network, search.trainer.optimizer, search.weights.optimizer)
                peaks.append((ours + peak_bytes(lambda: next(steps)), theirs + peak_bytes(train)))  # noqa: B023
        step = statistics.median(a for a, _, _ in times)
        rows[way] = {
            "seconds": round(step, 4),
            "of_alone": round(statistics.median(a / b for a, b, _ in times), 3),
            "of_alone_and_w": round(statistics.median(a / (b + c) for a, b, c in times), 3),
            "peak_mib": round(statistics.median(a for a, _ in peaks) / 2**20, 1),
            "peak_of_alone": round(statistics.median(a / b for a, b in peaks), 3),
        }
        print(f"{words:24} {rows[way]}", flush=True)
    print(
        json.dumps(
            {
                "benchmark": "gradient_step",
                "ratio": rows["path"]["of_alone_and_w"],
                "memory": rows["path"]["peak_of_alone"],
                "rows": rows,
                "reference": "the stand-alone network's training step + a pass for w",
                "runs": options.runs,
                "threads": torch.get_num_threads(),
                "machine": platform.processor() or platform.machine(),
                "torch": torch.__version__,
            }
        )
    )


if __name__ == "__main__":
    main()
