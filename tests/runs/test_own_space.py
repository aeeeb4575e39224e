"""The command line on a space of the user's own, which a Python file registers: a program, and treated as one."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runs.command import TINY, call, result
from vaenas.errors import UserError
from vaenas.networks import image_space, register_space, space_class, space_file, space_names
from vaenas.networks.weights import load_weights

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_space.py"
SEARCH = [*TINY, "--layers", "3", "--width", "4"]


def forget() -> None:
    """As in a process of its own that has loaded nothing yet."""
    for name in [name for name in space_names() if not space_class(name).__module__.startswith("vaenas.")]:
        del image_space._SPACES[name]
    space_file._loaded.clear()


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("VAENAS_CACHE", str(tmp_path / "cache"))
    forget()
    yield
    forget()


def test_an_own_space_is_searched_trained_exported_shown_and_drawn(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, run, trained = tmp_path / "mine.py", tmp_path / "run", tmp_path / "trained"
    file.write_bytes(EXAMPLE.read_bytes())
    assert call("search", "--data", pictures, "--output", run, *SEARCH, "--space-file", file) == 0
    code = result(run)["best"]["code"]
    assert (result(run)["space"], len(code)) == ("mine", 3)
    forget()
    assert call("train", run, "--output", trained, "--epochs", "1", "--batch-size", "32") == 0
    forget()
    assert call("export", trained, "-f", "torch") == 0
    assert (trained / "weights.md").read_text().count("space mine") == 1
    forget()
    assert call("eval", trained, "--data", pictures, "--json") == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    for words in (
        (run,),
        (code, "--space-file", file, "--layers", "3", "--width", "4", "--image-size", "16", "--classes", "3"),
    ):
        forget()
        assert call("show", *words, "--json") == 0
        facts = json.loads(capsys.readouterr().out)
        assert (facts["space"], facts["code"], facts["params"]) == ("mine", code, figures["params"])
    forget()
    assert call("draw", run, "-o", tmp_path / "network.svg") == 0
    assert "conv 3x3" in (run / "drawing.json").read_text()
    forget()
    assert call("search", "--resume", run) == 0
    forget()
    with pytest.raises(UserError, match=r"space 'mine': choose shufflenet, .*--space-file"):
        load_weights(trained / "weights.safetensors")

    # Another content is another program: not run until it is given, and not the one that the run was begun with.
    file.write_text(file.read_text() + "\n# changed\n")
    (run / "result.json").unlink()
    capsys.readouterr()
    assert call("search", "--resume", run) == 2
    assert f"was never given here: look at it, and add --space-file {file}" in capsys.readouterr().err
    assert "mine" not in space_names()
    assert call("search", "--resume", run, "--space-file", file) == 2
    assert f"the space file {file} changed since the run was begun" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "it registers no space; end it with vaenas.register_space(MySpace)"),
        ("1 / 0", "ZeroDivisionError: division by zero: correct the file"),
        ("def", "SyntaxError"),
        ("from vaenas.networks import *\n@register_space\nclass A(ImageSpace): name = 'a'", "network_class is missing"),
        (EXAMPLE.read_text().replace('name, network_class = "mine"', 'name, network_class = "macro"'), "has one of"),
        (EXAMPLE.read_text().replace('name, network_class = "mine"', 'name, network_class = "M"'), "space 'M': a name"),
    ],
)
def test_a_bad_space_file_is_one_line(
    content: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(content)
    assert call("show", "3333", "--space-file", file) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert f"--space-file {file}" in line
    assert call("show", "3333", "--space-file", tmp_path) == 2
    assert "there is no such file" in capsys.readouterr().err


def test_a_space_of_vaenas_keeps_its_name_and_an_own_one_may_be_registered_again() -> None:
    space_file.load_space_file(EXAMPLE, given=True)
    register_space(space_class("mine"))
    with pytest.raises(UserError, match="space nasnet: vaenas has one of this name"):
        register_space(space_class("nasnet"))
