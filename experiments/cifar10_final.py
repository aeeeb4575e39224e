"""The best architecture of the one-shot search on CIFAR-10, against torchvision's networks of its size, same recipe.

    python experiments/cifar10_final.py --data-root ../shared/data --seeds 0 1 2      train what is left, then the table
    python experiments/cifar10_final.py --summary                                     only collect what has ended

Ours is what experiments/cifar10_one_shot.py found with the learned sampler: 10 layers, width 0.25, as it was searched.
ShuffleNetV2 and MobileNetV3-Small (torchvision) are brought to 32 pixels, as ours is: stride 1 in the stem, no max
pooling in the one, stride 1 in the first block of the other; and to the largest width that has no more multiply-adds
than ours. All are trained by the recipe "quick" from the same code, for the same epochs, and tested on the test set.

Trainings run two at a time, one thread each. Results go to results/cifar10_final/width-W-epochs-E/, one file each;
started again, the script trains only what has none.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Generator, nn
from torchvision.models.mobilenetv3 import MobileNetV3, _mobilenet_v3_conf
from torchvision.models.shufflenetv2 import ShuffleNetV2

from runs import two_at_a_time
from vaenas.data.augment import Augment
from vaenas.data.load import load
from vaenas.data.settings import DataSettings
from vaenas.data.subsets import Subset
from vaenas.evaluation.final import logits_of, quality
from vaenas.files import write_atomically
from vaenas.networks import NetworkConfig, space_class
from vaenas.networks.cost import count
from vaenas.parallel import make_fabric
from vaenas.training.config import RECIPES
from vaenas.training.train import Training

RESULTS = Path(__file__).parent / "results" / "cifar10_final"
FOUND = Path(__file__).parent / "results" / "cifar10_one_shot" / "vae-seed0" / "result.json"
WIDTH = 0.25


def ours(width: float) -> nn.Module:
    best = json.loads(FOUND.read_text())["best"]["architecture"]
    return space_class("shufflenet")(NetworkConfig(32, 3, 10, width, len(best))).network(torch.tensor(best))


def shufflenet_v2(channels: int) -> nn.Module:
    """torchvision's, whose first stage has so many channels; its widths have 24 : 48 : 96 : 192 : 1024 at 0.5."""
    stages = [24 * channels // 48, channels, 2 * channels, 4 * channels, 1024 * channels // 48]
    network = ShuffleNetV2([4, 8, 4], stages, num_classes=10)
    network.conv1[0].stride = (1, 1)
    network.maxpool = nn.Identity()  # type: ignore[assignment]
    return network


def mobilenet_v3_small(percent: int) -> nn.Module:
    blocks, last = _mobilenet_v3_conf("mobilenet_v3_small", width_mult=percent / 100)
    blocks[0].stride = 1
    network = MobileNetV3(blocks, last, num_classes=10, dropout=0.0)
    network.features[0][0].stride = (1, 1)  # type: ignore[index, union-attr]
    return network


def largest(build: Callable[[int], nn.Module], sizes: range, limit: int) -> nn.Module:
    """The largest size with at most `limit` multiply-adds."""
    fitting = [size for size in sizes if multiply_adds(build(size)) <= limit]
    return build(max(fitting))


def multiply_adds(network: nn.Module) -> int:
    return count(network.eval(), torch.zeros(1, 3, 32, 32))[0]


def make(name: str, width: float) -> nn.Module:
    limit = multiply_adds(ours(width))
    if name == "ours":
        return ours(width)
    if name == "shufflenet_v2":
        return largest(shufflenet_v2, range(4, 60, 2), limit)
    return largest(mobilenet_v3_small, range(5, 101), limit)


NAMES = ("ours", "shufflenet_v2", "mobilenet_v3_small")


def train(name: str, width: float, seed: int, root: Path, epochs: int) -> dict:
    fabric, began = make_fabric("cpu", "32-true"), time.monotonic()
    torch.manual_seed(seed)
    rng = Generator().manual_seed(seed)
    data = load(DataSettings("cifar10", str(root)))
    assert data.test is not None
    recipe = replace(RECIPES["quick"], epochs=epochs)
    network = make(name, width)
    flops, params = count(network.eval(), torch.zeros(1, 3, 32, 32))
    network = network.to(memory_format=torch.channels_last).train()
    plain, test = Augment(data.mean, data.std).plain, data.test

    def evaluate(network: nn.Module) -> tuple[float, float]:
        parts = torch.arange(len(test)).split(256)
        found = quality(torch.cat([logits_of(network, plain(test.batch(rows)[0])) for rows in parts]), test.labels)
        network.train()
        return found.top1, found.top5

    augment = Augment(data.mean, data.std, recipe.padding, cutout=recipe.cutout)
    images = Subset(data.train, torch.arange(len(data.train)))
    training = Training(
        recipe=recipe, fabric=fabric, network=network, images=images, augment=augment, evaluate=evaluate, classes=10,
        rng=rng, log_interval=100, evaluate_every=epochs,
    )  # fmt: skip
    for record in training.run():
        print(name, seed, training.step, record.kind, record.values, flush=True)
    assert training.final_network is network
    last = training.history[-1]
    return {
        "name": name, "width": width, "seed": seed, "epochs": epochs, "accuracy": last["accuracy"],
        "top5": last["top5"], "train_loss": last["train_loss"], "flops": flops, "params": params,
        "seconds": time.monotonic() - began,
    }  # fmt: skip


def summarise(folder: Path) -> None:
    rows = [json.loads(file.read_text()) for file in sorted(folder.glob("*-seed*.json"))]
    print("| network | multiply-adds | parameters | test accuracy, % | seeds |\n| --- | --- | --- | --- | --- |")
    for name in NAMES:
        mine = [row for row in rows if row["name"] == name]
        if mine:
            accuracies = [100 * row["accuracy"] for row in mine]
            spread = f" ± {statistics.stdev(accuracies):.2f}" if len(mine) > 1 else ""
            mean = statistics.mean(accuracies)
            print(f"| {name} | {mine[0]['flops']:,} | {mine[0]['params']:,} | {mean:.2f}{spread} | {len(mine)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--width", type=float, default=WIDTH, help="of ours, whose multiply-adds the others may have")
    parser.add_argument("--summary", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("NETWORK", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder = RESULTS / f"width-{options.width:g}-epochs-{options.epochs}"
    folder.mkdir(parents=True, exist_ok=True)
    if options.one:
        name, seed = options.one[0], int(options.one[1])
        row = train(name, options.width, seed, options.data_root, options.epochs)
        write_atomically(folder / f"{name}-seed{seed}.json", (json.dumps(row, indent=1) + "\n").encode())
        return
    if not options.summary:
        jobs = [(name, seed) for seed in options.seeds for name in NAMES]
        two_at_a_time(partial(train_apart, *job, folder, options) for job in jobs)
    summarise(folder)


def train_apart(name: str, seed: int, folder: Path, options: argparse.Namespace) -> None:
    if (folder / f"{name}-seed{seed}.json").exists():
        return
    words = [sys.executable, __file__, "--one", name, str(seed), "--data-root", str(options.data_root)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words += ["--epochs", str(options.epochs), "--width", str(options.width)]
    subprocess.run(words, check=True, env=environment)


if __name__ == "__main__":
    main()
