"""How well the latency tables of `--max-latency` know whole networks: median relative error, on this machine now.

    python benchmarks/latency.py

Measures each table afresh, as a search without a cached one does, and prints its error on 12 random networks that were
not fitted. Last line: JSON.
"""

import json

import torch

from vaenas.machine import describe_device
from vaenas.networks import NetworkConfig, space_class
from vaenas.networks.latency import measure

CASES = {
    "shufflenet, 32 px, width 0.5, 10 layers": ("shufflenet", (32, 3, 10, 0.5, 10)),
    "shufflenet, 224 px, the paper's": ("shufflenet", (224, 3, 1000, 1.0, 20)),
    "nasnet, 32 px, 8 channels, 5 cells": ("nasnet", (32, 3, 10, 8, 5)),
}

if __name__ == "__main__":
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(describe_device(device))
    errors = {}
    for name, (space, arguments) in CASES.items():
        errors[name] = measure(space_class(space)(NetworkConfig(*arguments)), device).error
        print(f"{name}: {100 * errors[name]:.1f} %")
    print(json.dumps(errors))
