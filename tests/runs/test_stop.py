"""A run killed while it writes, or stopped by a signal, and resumed, ends in the same bits as one that was not."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.runs.command import BUILTIN, TINY, assert_same_end, call, environment, files, metrics, result, run, start
from vaenas.runs.config import SearchConfig
from vaenas.runs.directory import NewRun, RunDirectory
from vaenas.runs.search_run import SearchRun
from vaenas.runs.settings import make

# Forks a process for each kill, which kills itself before or after it renames a file, or with half of it written.
KILLED_WHILE_WRITING = """
import json, os, signal, sys
from vaenas import cli
import vaenas.commands.progress, vaenas.report, vaenas.runs.search_run

kills, first, rest = json.loads(sys.argv[1])
folder = rest[-1]
rename, sync = os.replace, os.fsync

def run(words, when, name, n):
    passed = []
    def die(now, path):
        if now == when and name in os.path.basename(path):
            passed.append(now)
            if len(passed) == n:
                if when == "half":
                    os.truncate(path, os.stat(path).st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
    def fsync(file):
        die("half", os.readlink(f"/proc/self/fd/{file}"))
        sync(file)
    def replace(source, target):
        die("before", target)
        rename(source, target)
        die("after", target)
    os.replace, os.fsync, sys.argv[1:] = replace, fsync, words
    cli.main()

for i, kill in enumerate([*kills, ["", "", 0]]):
    child = os.fork()
    if child == 0:
        run(rest if os.path.isdir(folder) else first, *kill)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code != (-signal.SIGKILL if i < len(kills) else 0):
        sys.exit(f"kill {i}, {kill}: ended with {code}")
"""
KILLS = [
    ("half", "config.yaml", 1), ("before", "run", 1), ("after", "run", 1), ("half", "checkpoint", 1),
    ("before", "checkpoint", 1), ("after", "checkpoint", 1), ("half", "checkpoint", 5), ("before", "checkpoint", 17),
    ("after", "checkpoint", 13), ("half", "drawing.json", 1), ("after", "drawing.json", 1),
    ("before", "result.json", 1),
    ("after", "result.json", 1),
]  # fmt: skip


@pytest.fixture(scope="module")
def killed_while_writing(tmp_path_factory: pytest.TempPathFactory, pictures: Path, cache: Path) -> Path:
    """A run that died at each of KILLS, one after the other, and then ended."""
    path = tmp_path_factory.mktemp("writing") / "run"
    first = ["search", "--data", str(pictures), "--output", str(path), *TINY, "--checkpoint-seconds", "0"]
    told = json.dumps([KILLS, first, ["search", "--resume", str(path)]])
    done = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_WRITING, told], env=environment(cache), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return path


def test_killed_while_it_writes(killed_while_writing: Path, finished: Path) -> None:
    """Before, during and after the move of each file that a run writes; `half` leaves a torn file behind."""
    assert result(killed_while_writing) == result(finished)
    assert (killed_while_writing / "drawing.json").read_bytes() == (finished / "drawing.json").read_bytes()
    assert (killed_while_writing / "report.html").exists()


def test_metrics_of_a_run_killed_while_it_writes(killed_while_writing: Path, finished: Path) -> None:
    """No line is lost, none stands there twice."""
    assert metrics(killed_while_writing) == metrics(finished)


def test_kills_leave_nothing_behind(killed_while_writing: Path) -> None:
    assert not list(killed_while_writing.glob(".*"))


def test_killed_before_it_began(pictures: Path, tmp_path: Path) -> None:
    """There is nothing to resume; the same command begins the run, and removes what was left."""
    left = tmp_path / ".run.0123456789abcdef.tmp"
    left.mkdir()
    (left / "config.yaml").write_text("# vae")
    assert call("search", "--data", pictures, "--output", tmp_path / "run", *TINY) == 0
    assert not list(tmp_path.glob(".*"))


def test_tensorboard_after_kills(killed_while_writing: Path) -> None:
    """Every step stands there once."""
    events = EventAccumulator(str(killed_while_writing / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == list(range(1, 29))


def test_stopped_at_the_last_record(finished: Path, pictures: Path, tmp_path: Path) -> None:
    """A checkpoint of the very end: the comparison is not told a second time."""
    config = make(SearchConfig, {}, finished / "config.yaml")
    begun = SearchRun(config, NewRun(tmp_path / "run"))
    for record in begun.records():
        if record.kind == "comparison":
            begun.save()
            break
    del begun  # and with it the lock
    assert call("search", "--resume", tmp_path / "run") == 0
    assert_same_end(tmp_path / "run", finished)


@pytest.mark.parametrize(("number", "code", "kind"), [(signal.SIGINT, 130, "train")])
def test_stopped_by_a_signal(
    number: signal.Signals, code: int, kind: str, pictures: Path, finished: Path, tmp_path: Path, cache: Path
) -> None:
    """It says how to go on, and goes on to the same bits."""
    path, out = tmp_path / "run", tmp_path / "out"
    process = start("--data", pictures, "--output", path, *TINY, stdout=out)
    while not any(line["kind"] == kind for line in metrics(path)):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    process.send_signal(number)
    _, err = process.communicate(timeout=100)
    assert process.returncode == code, err
    assert err.count("\n") == 2  # at once, and when it is saved
    assert f"vaenas search --resume {path}" in err
    assert RunDirectory(path).load_checkpoint() is not None
    assert not (path / "result.json").exists()
    done = run(cache, "search", "--resume", path)
    assert done.returncode == 0, done.stderr
    assert_same_end(path, finished)


def test_two_signals_stop_it_at_once(tmp_path: Path) -> None:
    """Without waiting for the step under way, and without a traceback."""
    path = tmp_path / "run"
    process = start("--output", path, *BUILTIN, "--batch-size", "2000", "--epochs", "9", stdout=tmp_path / "out")
    while not (path / "config.yaml").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    time.sleep(1)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 130, err
    assert "Traceback" not in err


def test_a_finished_run_is_shown_again(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Resuming it changes nothing but the page."""
    kept = {name: content for name, content in files(finished).items() if "report" not in name}
    assert call("search", "--resume", finished) == 0
    assert kept.items() <= files(finished).items()
    assert result(finished)["best"]["code"] in capsys.readouterr().out


def test_config_yaml_is_complete(finished: Path, tmp_path: Path) -> None:
    """It alone gives the same result."""
    assert call("search", "--config", finished / "config.yaml", "--output", tmp_path / "again") == 0
    assert_same_end(tmp_path / "again", finished)
