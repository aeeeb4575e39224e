"""A short chain of `python -m tests.robustness.signals`."""

import json
import subprocess
import sys
from pathlib import Path


def test_a_chain_of_signals(tmp_path: Path) -> None:
    """Whatever stops a search or a training, it goes on to the same bits."""
    options = ["--commands", "search,train", "--signals", "8", "--output", str(tmp_path / "figures.json")]
    done = subprocess.run(
        [sys.executable, "-m", "tests.robustness.signals", *options], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["signals"] == 8
    assert not figures["different"]
    assert not figures["complaints"]
