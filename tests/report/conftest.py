"""Run directories with seeded numbers, in the format that a search writes."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

SLOTS, OPERATIONS, UPDATES = 20, 4, 6
STAGES = ((0, 4), (4, 8), (8, 16), (16, 20))
MakeRun = Callable[..., Path]


NEVER_LEARN = ("uniform", "fair", "two-path", "mixture")  # no updates of a sampler


def as_gradient(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same as the gradient-based method writes them: no ε, no generations, but the architecture weights."""
    rng, changed = np.random.default_rng(2), []
    for record in records:
        if record["kind"] == "train":
            record = {k: v for k, v in record.items() if k != "epsilon"} | {"search_loss": record["loss"] + 0.1}
        if record["kind"] == "train" and record["step"] % 500 == 0:
            t = record["step"] / 3000
            weights = {
                "kind": "weights", "step": record["step"], "epoch": record["epoch"], "seconds": record["seconds"],
                "entropy_of_weights": (math.log(4) * (1 - t) * rng.uniform(0.9, 1, SLOTS)).tolist(),
                "distinct_so_far": int(400 * t), "derived": [0] * SLOTS, "parameter_free": 0.4 * t,
                "params": int(1e5 * (2 - t)), "flops": 10**7,
            }  # fmt: skip
            changed.append(weights)
        if record["kind"] != "generation":
            changed.append(record)
    return changed


def make_records(sampler: str = "vae", updates: int = UPDATES) -> list[dict[str, Any]]:
    """What metrics.jsonl holds: training, `updates` updates, 10 generations, one comparison."""
    rng = np.random.default_rng(0)
    records: list[dict[str, Any]] = []
    for i in range(1, 61):
        t = i / 60
        records.append(
            {"kind": "train", "step": 50 * i, "seconds": 30.0 * i, "epoch": 0.2 * i,
             "loss": 2.3 * math.exp(-2 * t) + 0.3 + 0.05 * rng.normal(),
             "accuracy": min(1, 0.1 + 0.75 * (1 - math.exp(-3 * t)) + 0.01 * rng.normal()),
             "lr": 0.5 * (1 - t), "epsilon": min(1.0, t * 0.8)}
        )  # fmt: skip
    sharp = rng.normal(size=(SLOTS, OPERATIONS))
    learning = sampler not in NEVER_LEARN
    for u in range(1, updates + 1 if learning else 1):
        logits = sharp * 0.45 * u
        marginals = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        learned = rng.random(40) < 0.8 * u / 6
        scores = np.clip(0.45 + 0.06 * u + 0.02 * u**0.5 * learned + 0.04 * rng.normal(size=40), 0, 1)
        record = {
            "kind": "update", "step": 500 * u, "seconds": 300.0 * u, "epoch": 2.0 * u, "epsilon": min(1.0, 0.8 * u / 6),
            "scores": scores.tolist(), "flops": rng.integers(10e6, 30e6, 40).tolist(), "learned": learned.tolist(),
            "entropy": float(-(marginals * np.log(marginals)).sum(1).mean()), "distinct": 0.98,
            "probabilities": marginals.tolist(),
        }  # fmt: skip
        if sampler == "vae":
            record |= {"loss": 20.0 - u, "kl": 1.5 * u, "active_units": u, "reconstruction": min(1.0, 0.3 + 0.08 * u)}
        records.append(record)
    for g in range(10):
        scores = 0.83 + 0.01 * (1 - math.exp(-g / 3)) + 0.008 * rng.normal(size=20)
        best = 0.85 + 0.02 * (1 - math.exp(-g / 3))
        records.append(
            {"kind": "generation", "step": 3000, "seconds": 1900.0 + g, "generation": g, "best": best,
             "mean": float(scores.mean()), "scores": scores.tolist()}
        )  # fmt: skip
    if learning:
        records.append(
            {"kind": "comparison", "step": 3000, "seconds": 1950.0,
             "sampler": (0.84 + 0.012 * rng.normal(size=60)).tolist(),
             "uniform": (0.815 + 0.02 * rng.normal(size=60)).tolist()}
        )  # fmt: skip
    return records


def make_result(sampler: str = "vae") -> dict[str, Any]:
    rng = np.random.default_rng(1)
    flops = rng.integers(10_000_000, 29_000_000, 300)
    accuracy = 0.78 + 0.08 * (1 - np.exp(-(flops - 9e6) / 8e6)) + 0.012 * rng.normal(size=300)
    pareto, top = [], 0.0
    for i in np.argsort(flops):
        if accuracy[i] > top:
            top = float(accuracy[i])
            architecture = rng.integers(0, OPERATIONS, SLOTS).tolist()
            code = "-".join("".join("357x"[a] for a in architecture[slice(*ends)]) for ends in STAGES)
            pareto.append(
                {
                    "architecture": architecture,
                    "code": code,
                    "score": top,
                    "predicted_score": top,
                    "flops": int(flops[i]),
                    "params": 1_234_567,
                }
            )
    draws = {"sampler": {"mean": 0.84, "std": 0.012, "n": 60}, "uniform": {"mean": 0.815, "std": 0.02, "n": 60}}
    return {
        "kind": "search", "space": "shufflenet", "method": "one_shot", "sampler": sampler, "seed": 0,
        "best": pareto[-1], "pareto": pareto, "evaluated": 300,
        "evaluations": [
            {"score": float(a), "predicted_score": float(a), "flops": int(f)}
            for a, f in zip(accuracy, flops, strict=True)
        ],
        "draws": None if sampler in NEVER_LEARN else draws, "seconds": 1990.0, "version": "0.1.0",
        "ranking_metric": "accuracy",
        "network": {"image_size": 28, "image_channels": 1, "classes": 10, "width": 0.5, "layers": SLOTS},
        "truth": None, "latency": None,
        "images": {"training": 59000, "ranking": 1000, "test_split": None, "skipped": [], "notes": []},
        "environment": {"python": "3.12", "threads": 1},
    }  # fmt: skip


def make_drawing(architecture: list[int]) -> dict[str, Any]:
    groups, slot = [], 0
    for i, (length, shape) in enumerate(
        ((4, "64 × 16 × 16"), (4, "160 × 8 × 8"), (8, "320 × 4 × 4"), (4, "640 × 2 × 2"))
    ):
        slots = [{"slot": slot + j, "operation": architecture[slot + j]} for j in range(length)]
        groups.append({"name": f"stage {i + 1}", "output": shape, "slots": slots})
        slot += length
    names = (("3", "Shuffle 3x3"), ("5", "Shuffle 5x5"), ("7", "Shuffle 7x7"), ("x", "Xception 3x3"))
    return {
        "title": "ShuffleNet-like network", "groups": groups, "input": "1 × 28 × 28", "before": ["Conv 3×3, 16"],
        "operations": [{"symbol": s, "name": n} for s, n in names],
        "after": ["Conv 1×1, 1024", "Global pool", "Dropout 0.5", "Linear 10"],
    }  # fmt: skip


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> MakeRun:
    """Makes a run directory: `make_run(sampler="vae", updates=6, finished=True, max_flops=30e6, **settings)`."""

    def make(
        sampler: str = "vae",
        updates: int = UPDATES,
        finished: bool = True,
        max_flops: float | None = 30_000_000,
        **settings: Any,
    ) -> Path:
        run = tmp_path_factory.mktemp("run")
        config = {
            "space": "shufflenet", "method": "one_shot", "sampler": sampler, "data": "builtin", "seed": 0, "epochs": 12,
            "network": {"width": 0.5}, "constraints": {"max_flops": max_flops}, "channels": [16, 64, 160, 320, 640],
            **settings,
        }  # fmt: skip
        if sampler in ("two-path", "mixture"):
            config |= {"sampler": None, "gradient": {"arch_update": sampler}}
        (run / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        records = make_records(sampler, updates)
        if settings.get("method") == "gradient":
            records = as_gradient(records)
        if not finished:
            records = [r for r in records if r["kind"] in ("train", "update")]
        (run / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
        if finished:
            result = make_result(sampler)
            (run / "result.json").write_text(json.dumps(result), encoding="utf-8")
            drawing = make_drawing(result["best"]["architecture"])
            (run / "drawing.json").write_text(json.dumps(drawing), encoding="utf-8")
        return run

    return make
