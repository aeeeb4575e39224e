"""Signals and kills of `vaenas bench curves`: nothing is left running, what was finished is kept, and it goes on."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path

import pytest

from tests.runs.command import call, command, environment
from vaenas.bench.curves import Run
from vaenas.bench.finished import Finished
from vaenas.errors import UserError


def wait_for(condition: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_stopped_or_killed_it_leaves_no_worker_and_goes_on_to_the_same_curves(tmp_path: Path) -> None:
    table, whole, output = tmp_path / "table", tmp_path / "whole", tmp_path / "output"
    rows = "".join(f"{i % 5},{i // 5 % 3},{i // 15},{i * 7 % 30}\n" for i in range(30))
    (tmp_path / "table.csv").write_text("a,b,c,score\n" + rows)
    columns = ["--slots", "a,b,c", "--score", "score"]
    assert call("bench", "import", tmp_path / "table.csv", *columns, "--output", table) == 0
    words = ["bench", "curves", "--table", table, "--methods", "vae", "--queries", 20, "--seeds", 16, "--workers"]

    def lines() -> int:
        return (output / "runs.jsonl").read_bytes().count(b"\n") if (output / "runs.jsonl").exists() else 1

    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGKILL, -9)):
        before = lines()
        size = 2 if number == signal.SIGKILL else 1
        started = subprocess.Popen(
            command(*words, size, "--output", output), env=environment(tmp_path), stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        wait_for(lambda before=before, started=started: lines() > before or started.poll() is not None, 120)
        workers = list(map(int, Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()))
        assert len(workers) > size  # and Python's own helper
        if number == signal.SIGINT:
            os.killpg(started.pid, number)  # as a terminal does
        else:
            started.send_signal(number)
        _, err = started.communicate(timeout=30)
        assert started.returncode == code
        assert "Traceback" not in err
        wait_for(lambda workers=workers: not any(map(alive, workers)), 5)
        assert before < lines() < 17
    assert call(*words, 2, "--output", output) == 0
    assert call(*words, 2, "--output", whole) == 0
    assert (output / "curves.json").read_bytes() == (whole / "curves.json").read_bytes()


def test_a_killed_worker_is_said_in_one_line(tmp_path: Path) -> None:
    with (
        Finished(tmp_path / "runs.jsonl", {}, Run, attrgetter("seed")) as finished,
        pytest.raises(UserError, match="a worker process was killed"),
    ):
        list(finished.run(os._exit, [(1,)], 1))
