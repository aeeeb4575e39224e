"""A search on CIFAR-10 holds at most 1.5 GiB resident."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.runs.command import command, environment


@pytest.mark.timeout(900)
def test_cifar10_stays_below_one_and_a_half_gib(tmp_path: Path, test_cache: Path, cifar10_archive: Path) -> None:
    """All training images are touched (an epoch of 49,000), ranked and searched; the peak counts mapped pages too."""
    words = ["--data", "cifar10", "--data-root", cifar10_archive, "--layers", 5, "--width", 0.125, "--epochs", 1]
    words += ["--batch-size", 256, "--update.vae-interval", 1, "--update.ranking-size", 4]
    words += ["--evolution.population", 4, "--evolution.generations", 2]
    with (tmp_path / "errors").open("w") as errors:
        words = command("search", *words, "--output", tmp_path / "run")
        process = subprocess.Popen(words, env=environment(test_cache), stdout=subprocess.DEVNULL, stderr=errors)
    # of this process alone: the children of the tests before count in RUSAGE_CHILDREN
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, (tmp_path / "errors").read_text()
    peak = usage.ru_maxrss * 1024
    assert 0.2 * 2**30 < peak < 1.5 * 2**30
