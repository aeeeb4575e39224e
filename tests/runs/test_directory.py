"""What a run is begun with, and what is said when it goes on with something else."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.runs.command import TINY, call, result
from vaenas.runs.directory import RunDirectory


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A run that lacks only its result."""
    path = shutil.copytree(finished, tmp_path / "copy")
    (path / "result.json").unlink()
    return path


def changed(file: Path, **values: Any) -> None:
    content = json.loads(file.read_text())
    (content if "format" in values else content["environment"]).update(values)
    file.write_text(json.dumps(content))


def test_a_run_says_where_it_was_made(finished: Path) -> None:
    begun = RunDirectory(finished).begun
    assert begun.environment == result(finished)["environment"]
    assert {"torch", "threads", "device"} <= begun.environment.keys()


def test_another_environment_is_a_warning(copy: Path, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed(copy / "environment.json", torch="1.0")
    assert call("search", "--resume", copy) == 0
    err = capsys.readouterr().err
    assert "torch 1.0" in err
    assert "last bits" in err
    assert result(copy) == result(finished)


def test_another_format_is_an_error(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed(copy / "environment.json", format=99)
    assert call("search", "--resume", copy) == 2
    assert "format 99" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 1, "kind": "search", "environment": {"torch": []}}'])
def test_an_environment_that_is_none(content: str, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "environment.json").write_text(content)
    assert call("search", "--resume", copy) == 2
    assert re.search("environment.json: .*put it back, or begin anew", capsys.readouterr().err)


@pytest.mark.parametrize(
    "state",
    [
        {},
        [],
        {"state": {}},
        {"config": {"seed": torch.zeros(2)}, "inputs": {}, "seconds": 1.0, "state": {}},
        {"config": {}, "inputs": {}, "seconds": 1.0, "state": {}},
        {"config": {}, "inputs": {}, "seconds": 1.0, "state": {}, "metrics_bytes": -1},
        torch.zeros(3),
    ],
)
def test_another_file_of_torch_as_checkpoint(state: object, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(state, copy / "checkpoint")
    assert call("search", "--resume", copy) == 2
    assert str(copy) in capsys.readouterr().err


@pytest.mark.parametrize("key", ["network", "optimizer", "sampler", "step", "rng"])
def test_a_state_that_does_not_fit(key: str, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each part of it at another type."""
    saved = torch.load(copy / "checkpoint", weights_only=True)
    part = saved["state"]["trainer"] if key in saved["state"]["trainer"] else saved["state"]
    assert key in part
    for value in (None, {}, [1], "x"):
        part[key] = value
        torch.save(saved, copy / "checkpoint")
        assert call("search", "--resume", copy) == 2
        assert f"{copy / 'checkpoint'} is damaged, or of another run" in capsys.readouterr().err


@pytest.mark.parametrize("value", [{}, torch.zeros(2), "x"])
def test_an_optimizer_that_does_not_fit(value: object, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = torch.load(copy / "checkpoint", weights_only=True)
    saved["state"]["trainer"]["optimizer"]["state"][0]["momentum_buffer"] = value
    torch.save(saved, copy / "checkpoint")
    assert call("search", "--resume", copy) == 2
    assert f"{copy / 'checkpoint'} is damaged, or of another run" in capsys.readouterr().err


def test_a_run_of_another_kind(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("train", "--resume", copy) == 2
    assert "it is a search, not a training" in capsys.readouterr().err


def test_swapped_images(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As many in each class as before: content tells."""
    data = shutil.copytree(pictures, tmp_path / "pictures")
    assert call("search", "--data", data, "--output", tmp_path / "run", *TINY) == 0
    (tmp_path / "run" / "result.json").unlink()
    for name in ("1.png", "2.png"):
        one, two = data / "train" / "blue" / name, data / "train" / "red" / name
        content = one.read_bytes()
        one.write_bytes(two.read_bytes())
        two.write_bytes(content)
    assert call("search", "--resume", tmp_path / "run") == 2
    assert f"the images of {data} changed" in capsys.readouterr().err
