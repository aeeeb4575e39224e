"""Commands on a folder that another process is working on; faults.py has them meet at every event."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.robustness.commands import COMMANDS, difference, ends, make_shared, words
from tests.runs.command import call, command, environment

# Everything is imported, so that the two begin within a millisecond.
AT_ONCE = """
import sys
from tests.robustness.commands import preload
preload()
from vaenas import cli
print("ready", flush=True)
sys.stdin.readline()
cli.main()
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, a table, and a search that has ended."""
    shared = tmp_path_factory.mktemp("shared")
    make_shared(shared)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAENAS_CACHE", str(shared / "cache"))
        for name, into in (("import", "table"), ("search", "found")):
            assert call(*words(COMMANDS[name].begin, shared, shared / into)) == 0
        yield shared


def refused(code: int, err: str, folder: Path) -> None:
    """Exit code 2 and one line that says why."""
    said = [line for line in err.splitlines() if "warning" not in line]
    assert (code, len(said)) == (2, 1), err
    assert said[0].startswith("vaenas: ")
    assert str(folder) in said[0]


@pytest.mark.parametrize("name", ["search", "curves"])
def test_a_living_run_is_left_alone(
    name: str, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who wants to go on with it is told so in one line; it ends as if nobody had asked. It can be reported on."""
    this, whole = COMMANDS[name], tmp_path / "whole" / "out"
    whole.parent.mkdir()
    assert call(*words(this.begin, shared, whole)) == 0
    out = tmp_path / "living" / "out"
    out.parent.mkdir()
    living = subprocess.Popen(
        command(*words(this.begin, shared, out)), env=environment(shared / "cache"), stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while sum(len(path.read_bytes().splitlines()) for path in out.rglob("*.jsonl")) < 2:
        assert living.poll() is None, living.communicate()[1]
        time.sleep(0.005)
    living.send_signal(signal.SIGSTOP)  # held where it is; the lock stays its own
    try:
        capsys.readouterr()
        code = call(*words(this.resume or this.begin, shared, out))
        refused(code, capsys.readouterr().err, out)
        if name == "search":
            assert call("report", out) == 0
    finally:
        living.send_signal(signal.SIGCONT)
        _, err = living.communicate(timeout=200)
    assert living.returncode == 0, err
    assert difference(ends(out.parent), ends(whole.parent)) is None


@pytest.mark.parametrize("name", ["search", "curves"])
def test_two_that_begin_at_once(name: str, shared: Path, tmp_path: Path) -> None:
    """One runs to its end, the other says why it does not; what is written down is of the one that ran."""
    out = tmp_path / "out"
    begin = words(COMMANDS[name].begin, shared, out)
    options = {"search": ["--seed"], "curves": ["--queries"]}[name]
    env = {**environment(shared / "cache"), "PYTHONPATH": ":".join(sys.path)}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", AT_ONCE, *begin, *options, str(number)], env=env, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in (11, 12)
    ]  # fmt: skip
    for one in both:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in both:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    ended = [(one.communicate(timeout=200)[1], one.returncode) for one in both]
    assert sorted(code for _, code in ended) == [0, 2], ended
    won = 11 + [code for _, code in ended].index(0)
    refused(2, ended[12 - won][0], out)
    if name == "search":
        assert yaml.safe_load((out / "config.yaml").read_text())["seed"] == won
    else:
        assert f'"queries": {won}' in (out / "runs.jsonl").read_text().splitlines()[0]
    assert not list(tmp_path.rglob("*.tmp"))
