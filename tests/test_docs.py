"""The examples in docs/ run as they stand; the package and its pages say what is so, in short sentences."""

import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import typer
from optuna.samplers._base import _process_constraints_after_trial

from tests.runs.command import environment
from vaenas import cli

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
GENERATED = {name: DOCS / "reference" / f"{name}.md" for name in ("settings", "result")}
PROSE = [
    README,
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "experiments" / "notes").glob("*.md")),
    *sorted(set(DOCS.rglob("*.md")) - set(GENERATED.values())),
]
# Pictures of experiments that pages show: a site has only what lies in docs/.
PICTURES = {"draws.svg": "sampling_matters", "diversity.png": "cifar10_nasnet"}


NOT_PROSE = re.compile(r"\||#|:::|!\[|    \S")  # tables, headings, objects of the code, pictures, commands


def run(words: list[str], cache: Path) -> str:
    done = subprocess.run(words, env=environment(cache), capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_space_of_ones_own(tmp_path: Path) -> None:
    """The page's file, by the commands of the page, with fewer images."""
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "howto" / "own-space.md").read_text("utf-8"), re.DOTALL)
    assert len(code.splitlines()) <= 60
    (tmp_path / "my_space.py").write_text(code, encoding="utf-8")
    vaenas = [sys.executable, "-m", "vaenas"]
    few = ["--epochs", "2", "--train-images", "1000"]
    search = ["search", "--space-file", f"{tmp_path}/my_space.py", "--max-params", "10K", *few]
    shown = run([*vaenas, *search, "--output", f"{tmp_path}/mine"], tmp_path / "cache")
    assert shown.count("] update ") == 2  # after each epoch
    assert (tmp_path / "mine" / "report.html").stat().st_size > 10_000
    run([*vaenas, "draw", f"{tmp_path}/mine", "-o", f"{tmp_path}/mine.svg"], tmp_path / "cache")
    run([*vaenas, "train", f"{tmp_path}/mine", *few, "--output", f"{tmp_path}/trained"], tmp_path / "cache")
    run([*vaenas, "export", f"{tmp_path}/trained", "-f", "onnx"], tmp_path / "cache")


def test_the_example_of_the_method_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "explanation" / "method.md").read_text("utf-8"), re.DOTALL)
    assert "xxxx" in run([sys.executable, "-c", code], tmp_path)


def paragraphs(page: Path) -> Iterator[list[str]]:
    """Lines of each paragraph and list item; no code, tables, headings."""
    text = re.sub(r"```.*?```|<!--.*?-->", "", page.read_text("utf-8"), flags=re.DOTALL)
    block: list[str] = []
    for line in [*text.splitlines(), ""]:
        begins = re.match(r"\s*(- |\d+\. |> )", line)
        if not line.strip() or begins or NOT_PROSE.match(line):
            if block:
                yield block
            block = []
        if line.strip() and not NOT_PROSE.match(line):
            block.append(line)


@pytest.mark.parametrize("page", PROSE, ids=lambda page: str(page.relative_to(ROOT)))
def test_prose_is_short(page: Path) -> None:
    found = list(paragraphs(page))
    long = [block[0] for block in found if len(block) > 5 or max(map(len, block)) > 120]
    assert not long, f"paragraphs of more than 5 lines, or lines of more than 120 characters: {long}"
    plain = [re.sub(r"`[^`]*`", "x", re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(block))) for block in found]
    sentences = [s for text in plain for s in re.split(r"(?<=[.!?])[\s*)]+", text) if s.strip()]
    words = sum(len(re.findall(r"\w[\w'’.%-]*", s)) for s in sentences)
    assert words <= 25 * max(1, len(sentences)), f"{words / len(sentences):.1f} words a sentence"


def test_the_readme_is_short() -> None:
    assert len(README.read_text("utf-8").split()) <= 900


@pytest.mark.parametrize("name", GENERATED)
def test_generated_pages_are_as_the_types_say(name: str, tmp_path: Path) -> None:
    shown = run([sys.executable, f"tools/{name}_reference.py"], tmp_path)
    again = f"python tools/{name}_reference.py > {GENERATED[name].relative_to(ROOT)}"
    assert shown == GENERATED[name].read_text("utf-8"), f"write it anew: {again}"


def test_pictures_are_those_of_the_experiments() -> None:
    for name, experiment in PICTURES.items():
        original = ROOT / "experiments" / "results" / experiment / name
        assert (DOCS / "assets" / name).read_bytes() == original.read_bytes(), f"copy {original} to docs/assets"


def test_every_page_is_in_the_navigation_and_every_picture_is_there() -> None:
    listed = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text("utf-8")))
    assert listed == {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    for page in PROSE:
        for link in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text("utf-8")):
            assert (page.parent / link).is_file(), f"{page}: {link}"


def test_links_to_files_lead_somewhere() -> None:
    for page in PROSE:
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text("utf-8")):
            assert link.startswith("https://") or (page.parent / link).is_file(), f"{page}: {link}"
    for file in [*(ROOT / "src").rglob("*.py"), *(ROOT / "experiments").glob("*.py"), ROOT / "CONTRIBUTING.md"]:
        for name in re.findall(r"docs/[\w/-]+\.md|experiments/notes/[\w-]+\.md", file.read_text("utf-8")):
            assert (ROOT / name).is_file(), f"{file}: {name}"


def options_of(command: Any, name: str = "vaenas") -> dict[str, set[str]]:
    """The options of each command, hidden ones too."""
    found = {name: {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}}
    for below, of_below in getattr(command, "commands", {}).items():
        found |= options_of(of_below, f"{name} {below}")
    return found


def test_options_in_the_pages_are_there() -> None:
    known = options_of(typer.main.get_command(cli.app))
    somewhere = set().union(*known.values(), {"--help"})
    for page in (README, *DOCS.rglob("*.md")):
        text = page.read_text("utf-8").replace("\\\n", " ")
        for command, given in re.findall(r"(vaenas (?:bench )?[a-z0-9]+)\b([^\n`#]*)", text):
            if command in known:
                assert set(re.findall(r"--[a-z][\w.-]*", given)) <= known[command] | {"--help"}, f"{page}: {command}"
        if page.name != "robustness.md":  # where options of the harness stand alone
            assert set(re.findall(r"`(--[a-z][\w.-]*)", text)) <= somewhere, page


def test_no_link_of_the_readme_leads_nowhere_on_a_package_index() -> None:
    shown = README.read_text("utf-8")
    for rule in PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        shown = re.sub(rule["pattern"], rule["replacement"].replace(r"\1", r"\g<1>"), shown)
    links = re.findall(r"\]\(([^)]+)\)", shown)
    assert not [link for link in links if not link.startswith("https://")]
    assert "docs/explanation/method.md in the source" in shown


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
