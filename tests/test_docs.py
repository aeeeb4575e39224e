"""The examples in docs/ run as they stand; the package and its page say what is so."""

import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import optuna
from optuna.samplers._base import _process_constraints_after_trial

from tests.runs.command import environment

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_a_space_of_ones_own(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "own-space.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(code.splitlines()) <= 80
    (tmp_path / "mine.py").write_text(code, encoding="utf-8")
    words = [sys.executable, str(tmp_path / "mine.py"), str(tmp_path / "run")]
    done = subprocess.run(words, env=environment(tmp_path / "cache"), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("update") == 4  # after each epoch
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000


def test_no_link_of_the_readme_leads_nowhere_on_a_package_index() -> None:
    (rule,) = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]
    shown = re.sub(rule["pattern"], rule["replacement"].replace(r"\1", r"\g<1>"), (ROOT / "README.md").read_text())
    links = re.findall(r"\]\(([^)]+)\)", shown)
    assert not [link for link in links if not link.startswith("https://")]
    assert "docs/decisions.md in the source" in shown


def test_the_package_says_what_it_is() -> None:
    project = PROJECT["project"]
    assert all(word in project["description"] for word in ("Algorithms 1", "2 (", "3 ("))
    assert "Typing :: Typed" in project["classifiers"]
    assert (ROOT / "src" / "vaenas" / "py.typed").is_file()
    assert any(line.startswith("pillow") for line in project["dependencies"])
    assert "private security advisory" in (ROOT / "SECURITY.md").read_text()


def test_optuna_is_bounded_by_what_its_private_name_was_tried_with() -> None:
    """`integrations/optuna.py` imports it; tests/integrations/test_optuna_suite.py ran with 4.8 and 5.0."""
    extras = PROJECT["project"]["optional-dependencies"]
    assert "optuna>=4,<6" in extras["optuna"]
    assert "optuna>=4,<6" in extras["bench"]
    assert 4 <= int(optuna.__version__.split(".")[0]) < 6
    arguments = inspect.signature(_process_constraints_after_trial).parameters
    assert [*arguments] == ["constraints_func", "study", "trial", "state"]
