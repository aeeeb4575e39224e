"""Memory that runs out: what torch, numpy and the system say, and the one line that the user gets."""

import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.runs.command import TINY, command, environment, make_pictures
from vaenas.errors import out_of_memory


@pytest.mark.parametrize("take", [lambda: torch.empty(2**50), lambda: np.empty(2**60, np.uint8), lambda: [0] * 2**60])
def test_real_errors(take: Callable[[], object]) -> None:
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        take()
    assert out_of_memory(caught.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("unable to write to file </torch_61_33_0>: No space left on device (28)"), True),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's "
                      "workers are out of shared memory."), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (OSError(5, "Input/output error"), False),
    ],
)  # fmt: skip
def test_what_is_said_of_it(error: Exception, expected: bool) -> None:
    assert out_of_memory(error) == expected


def test_a_search_that_needs_too_much_says_so_in_one_line(tmp_path: Path) -> None:
    words = ["search", "--data", make_pictures(tmp_path / "pictures"), "--output", tmp_path / "run", *TINY]
    ended = subprocess.run(
        command(*words, "--width", 256), env=environment(tmp_path / "cache"), capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (6 * 2**30, 6 * 2**30)),
    )  # fmt: skip
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith("vaenas: out of memory (")
    assert "lower --batch-size, --width, --image-size or --workers" in ended.stderr
    assert ended.stderr.count("\n") == 1
