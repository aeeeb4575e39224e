"""A sample of `python -m tests.robustness.faults`: every fault once in every command that writes in its own way."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.robustness.commands import COMMANDS
from tests.robustness.faults import FAULTS, FEWER, STAGES


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler for tests/robustness/shim.c: install gcc")
def test_every_fault_in_every_command(tmp_path: Path) -> None:
    """Each command goes on to the same end, or says in one line why it stopped."""
    arguments = ["-m", "tests.robustness.faults", "--sample", "--output", tmp_path / "figures.json"]
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["cases"] == sum(len(FEWER.get(name, FAULTS)) for name in COMMANDS) + len(STAGES)
    assert figures["failures"] == 0
