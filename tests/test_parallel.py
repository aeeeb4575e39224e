"""What torchrun sets in the environment, checked once; and how many threads a process takes."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runs.command import TINY, call, command, environment, make_pictures
from vaenas import machine, parallel
from vaenas.errors import UserError

WHOLE = {
    "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in WHOLE:
        monkeypatch.delenv(name, raising=False)
    parallel.processes.cache_clear()
    yield
    parallel.processes.cache_clear()


def test_whole_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parallel.processes() == parallel.Processes(0, 1, 0, 1)
    for name, value in WHOLE.items():
        monkeypatch.setenv(name, value)
    parallel.processes.cache_clear()
    assert parallel.processes() == parallel.Processes(3, 4, 1, 2)
    assert not parallel.is_main()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"RANK": "1"}, "RANK='1' .* WORLD_SIZE, LOCAL_RANK, .* missing; .* by torchrun, or unset RANK"),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE='' .* missing"),
        ({"LOCAL_RANK": "0"}, "LOCAL_RANK='0' .* missing"),
        ({**WHOLE, "RANK": "x"}, "RANK='x' .*: RANK is no number"),
        ({**WHOLE, "RANK": "-1"}, "RANK is no number"),
        ({**WHOLE, "LOCAL_WORLD_SIZE": "2.0"}, "LOCAL_WORLD_SIZE is no number"),
        ({**WHOLE, "MASTER_PORT": "9" * 5000}, "MASTER_PORT is no number"),
        ({**WHOLE, "MASTER_ADDR": ""}, "MASTER_ADDR is no address"),
        ({**WHOLE, "RANK": "4"}, "RANK must be below WORLD_SIZE"),
        ({**WHOLE, "LOCAL_RANK": "2"}, "LOCAL_RANK must be below LOCAL_WORLD_SIZE"),
        ({**WHOLE, "WORLD_SIZE": "5"}, "WORLD_SIZE must be a multiple of LOCAL_WORLD_SIZE"),
        ({**WHOLE, "LOCAL_WORLD_SIZE": "8"}, "WORLD_SIZE must be a multiple"),
        ({**WHOLE, "RANK": "0", "WORLD_SIZE": "0", "LOCAL_WORLD_SIZE": "0"}, "RANK must be below WORLD_SIZE"),
    ],
)
def test_stray_variables_are_named_and_nothing_is_begun(
    given: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=expected):
        parallel.processes()
    assert call("search", "--output", tmp_path / "run") == 2
    err = capsys.readouterr().err
    assert re.fullmatch(f"vaenas: {re.escape(next(iter(given)))}=.*\n", err)
    assert not (tmp_path / "run").exists()
    assert call("show", "no-code") == 2  # what needs no processes speaks as ever
    assert "no-code" in capsys.readouterr().err


def test_what_breaks_lightning_as_it_is_imported(tmp_path: Path) -> None:
    env = {**environment(tmp_path), "RANK": "x", "SLURM_PROCID": ""}
    ended = subprocess.run(command("search", "--output", tmp_path / "run"), env=env, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr.startswith("vaenas: RANK='x' in the environment: ")
    assert ended.stderr.count("\n") == 1


def test_threads_are_chosen_and_said_once(tmp_path: Path) -> None:
    """A scheduler's variables for single processes change nothing."""
    if machine.cores() == 1:
        pytest.skip("one core: nothing to choose")
    env = {**environment(tmp_path / "cache"), "SLURM_NTASKS": "2", "SLURM_JOB_NAME": "x", "SLURM_PROCID": "1"}
    del env["OMP_NUM_THREADS"]
    pictures = make_pictures(tmp_path / "pictures")
    words = [
        "search",
        "--data",
        pictures,
        "--output",
        tmp_path / "run",
        *TINY,
        "--epochs",
        1,
        "--update.vae-interval",
        1,
    ]
    ended = subprocess.run(command(*words), env=env, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    said = rf"(\d+) threads?: (\d+) of {machine.cores()} cores are free; set OMP_NUM_THREADS to choose"
    (found,) = re.findall(said, ended.stderr)
    assert 1 <= int(found[0]) <= max(1, int(found[1]))
    assert (tmp_path / "run" / "result.json").exists()
