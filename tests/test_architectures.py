"""`vaenas show` and `vaenas draw`, for every space, by code, genotype and run."""

import json
from pathlib import Path

import pytest
import torch

from tests.networks.test_nasnet import DARTS_V2
from tests.report.conftest import make_run
from tests.runs.command import call
from vaenas.commands.architecture import choose, facts
from vaenas.networks import space_names

__all__ = ["make_run"]
SPACES = space_names()
CODES = {
    "shufflenet": "3357-x357-33355777-xxxx",
    "nasnet": "33-33n-3snn-s7nnn-mm-nns-mnsn-nmsd5",
    "nasbench101": "0-01-000-1000-10111-100101-pp11p",
    "nasbench201": "3-3p-s31",
    "macro": "02012100",
}


def shown(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    assert call("show", *words, "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_every_space_has_a_code_here() -> None:
    assert tuple(CODES) == SPACES


def test_darts_v2_word_for_word(capsys: pytest.CaptureFixture[str]) -> None:
    facts = shown(capsys, "--space", "nasnet", "--genotype", DARTS_V2, "--layers", "20", "--width", "36")
    assert (facts["params"], facts["valid"]) == (3_349_342, True)  # published: 3.3M
    assert shown(capsys, "--genotype", facts["genotype"]) == shown(capsys, facts["code"])


@pytest.mark.parametrize("space", SPACES)
def test_a_code_is_shown_and_drawn(space: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    facts = shown(capsys, CODES[space])
    assert (facts["space"], facts["code"], facts["valid"]) == (space, CODES[space], True)
    assert facts["params"] > 0
    assert call("show", CODES[space], "--space", space) == 0
    assert CODES[space] in capsys.readouterr().out
    for kind, start in (("svg", b"<?xml"), ("png", b"\x89PNG")):
        assert call("draw", CODES[space], "-o", tmp_path / f"cell.{kind}") == 0
        assert (tmp_path / f"cell.{kind}").read_bytes().startswith(start)
    assert b"var(--" not in (tmp_path / "cell.svg").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cell.png", "cell.svg"]


def test_costs_are_those_of_the_network() -> None:
    for space in SPACES:
        image_space, architecture = choose(CODES[space], space, image_size=16, classes=7)
        network = image_space.network(architecture)
        assert facts(image_space, architecture)["params"] == sum(p.numel() for p in network.parameters())
        assert network.eval()(torch.zeros(1, 3, 16, 16)).shape == (1, 7)


def test_an_invalid_architecture_is_said_to_be_one(capsys: pytest.CaptureFixture[str]) -> None:
    facts = shown(capsys, "nn" + CODES["nasnet"][2:])
    assert (facts["valid"], facts["params"], facts["flops"], facts["genotype"]) == (False, None, None, None)


def test_nasbench101_has_its_hash(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(shown(capsys, CODES["nasbench101"])["hash"]) == 32


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "nope"], "'nope' fits no space"),
        (["show"], "one of the three"),
        (["show", "3-3p-s31", "--genotype", "x"], "one of the three"),
        (["show", "3-3p-s31", "--space", "darts"], "--space darts: there is no such space; choose shufflenet"),
        (["show", "3-3p-s31", "--space", "nasnet"], "space nasnet writes 28 operations as"),
        (["show", "--genotype", "Genotype()"], "genotype 'Genotype()' cannot be read"),
        (["show", "--genotype", DARTS_V2, "--space", "nasbench201"], "--genotype: space nasbench201 has none"),
        (["show", "--genotype", DARTS_V2, "--space", "shufflenet"], "--genotype: space shufflenet has none"),
        (["show", CODES["nasnet"], "--width", "7"], "width 7"),
        (["show", CODES["nasnet"], "--width", "nan"], "width nan: space nasnet takes even numbers of channels"),
        (["show", CODES["macro"], "--width", "inf"], "width inf: space macro takes >= 0.125 and <= 1024"),
        (["show", CODES["macro"], "--width", "1e9"], "width 1e+09: space macro takes"),
        (["show", CODES["shufflenet"], "--width", "nan"], "width nan: space shufflenet takes"),
        (["show", CODES["shufflenet"], "--layers", "12"], "layers 12: space shufflenet takes multiples of 5"),
        (["draw", "3-3p-s31", "-o", "cell.pdf"], "cell.pdf: a picture must end in .svg or .png"),
        (["draw", "3-3p-s31", "-o", "no/folder/cell.svg"], "--output no/folder/cell.svg: there is no folder no/folder"),
        (["draw", "3-3p-s31"], "--output"),
        (["show", "r/nope", "--space", "shufflenet"], "r/nope: there is no such folder"),
        (["train", "r/nope"], "r/nope: there is no such folder"),
        (["train", "nope"], "nor is there a run's folder of that name"),
        (["show", CODES["nasbench201"], "--layers", "0"], "--layers"),
        (["show", CODES["nasbench201"], "--layers", "99999999999"], "--layers"),
        (["show", CODES["nasbench201"], "--image-size", "9" * 21], "--image-size"),
        (["show", CODES["nasbench201"], "--classes", "9" * 21], "--classes"),
        (["train", "/dev/null"], "/dev/null: not a folder"),
        (["show", "3" * 300, "--space", "nasbench201"], "space nasbench201"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(*words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not list(tmp_path.iterdir())


def test_a_run_is_drawn_and_shown(make_run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = make_run()
    assert shown(capsys, run)["code"] == json.loads((run / "result.json").read_text())["best"]["code"]
    assert call("draw", run, "-o", tmp_path / "network.svg") == 0
    capsys.readouterr()
    assert call("show", make_run(finished=False)) == 2
    assert "the search has not ended" in capsys.readouterr().err
    assert call("show", run, "--space", "nasnet") == 2
    assert "is of space shufflenet" in capsys.readouterr().err
    content = json.loads((run / "result.json").read_text()) | {"space": "mine"}
    (run / "result.json").write_text(json.dumps(content))
    for words in (["show", run], ["draw", run, "-o", tmp_path / "x.svg"], ["train", run]):
        assert call(*words) == 2
        assert "space mine is not one of vaenas's own" in capsys.readouterr().err
