"""The command line in this process and in others, and the small searches that these tests run with it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vaenas import cli

CHOICES = ["--layers", "5", "--width", "0.25"]
CHOICES += ["--evolution.population", "6", "--evolution.generations", "3", "--evolution.top-k", "3"]
# A small population soon knows all neighbours of its parents at the default probability.
CHOICES += ["--evolution.mutation-prob", "0.5", "--update.ranking-size", "6", "--log-interval", "1"]
# 120 images in 7 steps an epoch, an update every 7, 28 in all.
TINY = [*CHOICES, "--image-size", "16", "--epochs", "4", "--batch-size", "16", "--ranking.images", "30"]
TINY += ["--ranking.recalibration-images", "32", "--update.vae-interval", "2"]

# Built-in images, about ten seconds: 36 steps with two updates, three generations, the comparison.
BUILTIN = [*CHOICES, "--epochs", "1", "--batch-size", "256", "--ranking.images", "600"]
BUILTIN += ["--ranking.recalibration-images", "64", "--update.vae-interval", "0.5", "--checkpoint-seconds", "0.5"]


def make_pictures(root: Path) -> Path:
    """Three classes of 50 pictures, each class a colour under noise, and a test set."""
    rng = np.random.default_rng(0)
    for part, n in (("train", 50), ("val", 2)):
        for c, name in enumerate(("blue", "green", "red")):
            (root / part / name).mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(0, 200, (16, 16, 3), dtype=np.uint8)
                pixels[..., 2 - c] += 55
                Image.fromarray(pixels).save(root / part / name / f"{i}.png")
    return root


def environment(cache: Path) -> dict[str, str]:
    """Plain output, one thread: what a process needs to end in the same bits."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "VAENAS_CACHE": str(cache)}


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "vaenas", *map(str, words)]


def run(cache: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """A process of its own, to its end."""
    return subprocess.run(command(*words), env=environment(cache), capture_output=True, text=True, timeout=500)


def start(*words: object, stdout: Path) -> "subprocess.Popen[str]":
    """A search in a process of its own, under way."""
    with stdout.open("w") as file:
        env = environment(stdout.parent / "cache")
        return subprocess.Popen(command("search", *words), env=env, stdout=file, stderr=subprocess.PIPE, text=True)


@contextmanager
def arguments(*words: object) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["vaenas", *map(str, words)])
        yield


def call(*words: object) -> int:
    """The same in this process: the exit code. Any other exception is one that the user would see as a traceback."""
    with arguments(*words), pytest.raises(SystemExit) as caught:
        cli.main()
    assert isinstance(caught.value.code, int)
    return caught.value.code


def result(run: Path) -> dict[str, Any]:
    """`result.json` but for the time."""
    found = json.loads((run / "result.json").read_text())
    assert found.pop("seconds") > 0
    return found


def metrics(run: Path) -> list[dict[str, Any]]:
    """Whole lines of `metrics.jsonl`, but for the times."""
    file = run / "metrics.jsonl"
    lines = file.read_text().split("\n")[:-1] if file.exists() else []
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


def assert_same_end(one: Path, other: Path) -> None:
    """The same bits in all that is not time."""
    assert result(one) == result(other)
    assert (one / "drawing.json").read_bytes() == (other / "drawing.json").read_bytes()
    assert metrics(one) == metrics(other)


def files(root: Path) -> dict[str, bytes]:
    """All files and their contents."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
