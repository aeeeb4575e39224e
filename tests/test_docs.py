"""The examples in docs/ run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

from tests.runs.command import environment

DOCS = Path(__file__).parents[1] / "docs"


def test_a_space_of_ones_own(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "own-space.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(code.splitlines()) <= 80
    (tmp_path / "mine.py").write_text(code, encoding="utf-8")
    words = [sys.executable, str(tmp_path / "mine.py"), str(tmp_path / "run")]
    done = subprocess.run(words, env=environment(tmp_path / "cache"), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("update") == 4  # after each epoch
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
