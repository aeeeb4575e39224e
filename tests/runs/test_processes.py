"""Two processes on the CPU (gloo), as `torchrun` starts them, against one with the same global batch."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.runs.command import TINY, call, environment, make_pictures, metrics, result

NASNET = ["--space", "nasnet", "--width", "4", "--layers", "3", "--epochs", "2", "--update.vae-interval", "1"]
SEARCHES = {  # few steps: rounding grows with each
    "one-shot": [*TINY, "--epochs", "2", "--update.vae-interval", "1", "--learning-rate", "0.02"],
    "gradient": [
        *TINY[TINY.index("--update.ranking-size") :],
        *NASNET,
        "--method",
        "gradient",
        "--learning-rate",
        "0.01",
        "--batch-size",
        "8",
        "--train-images",
        "64",
    ],
}


def torchrun(cache: Path, *words: object, **kwargs: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.Popen(
        [*command, "-m", "vaenas", *map(str, words)], env=environment(cache),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs,  # type: ignore[call-overload]
    )  # fmt: skip


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VAENAS_CACHE", str(tmp_path / "cache"))
    return make_pictures(tmp_path / "pictures")


@pytest.mark.parametrize("words", SEARCHES.values(), ids=SEARCHES.keys())
def test_a_search_by_two_is_the_search_by_one(words: list[str], tmp_path: Path, pictures: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    words = ["search", "--data", str(pictures), *words]
    assert call(*words, "--output", one) == 0
    started = torchrun(tmp_path / "cache", *words, "--output", two)
    out, err = started.communicate(timeout=300)
    assert started.returncode == 0, err
    assert out.count("result: ") == 1  # one of them speaks
    alone, together = metrics(one), metrics(two)
    until = next(i for i, line in enumerate(alone) if line["kind"] == "update")
    for i, (a, b) in enumerate(zip(alone[:until], together[:until], strict=True)):
        for name in {"loss", "search_loss"} & a.keys():  # so small a network makes much of rounding in a few steps
            assert b[name] == pytest.approx(a[name], rel=1e-3 if i < 3 else 3e-2)
    assert together[until]["population"] == alone[until]["population"]
    assert together[until]["scores"] == pytest.approx(alone[until]["scores"], abs=0.15)
    assert [line["kind"] for line in together] == [line["kind"] for line in alone]
    assert result(two).keys() == result(one).keys()


def test_weights_are_the_same_to_rounding(tmp_path: Path) -> None:
    """Four steps in double precision of both networks, with dropout, drop path and the auxiliary tower.

    The script also checks that a batch of odd size is refused.
    """
    script = Path(__file__).with_name("four_steps.py")
    env = environment(tmp_path)
    alone = subprocess.run([sys.executable, script], env=env, capture_output=True, text=True, check=True).stdout
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script]
    together = subprocess.run(torchrun, env=env, capture_output=True, text=True, check=True).stdout
    expected, found = json.loads(alone.splitlines()[-1]), json.loads(together.splitlines()[-1])
    assert len(expected) > 300
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_a_training_by_two_is_the_training_by_one(tmp_path: Path, pictures: Path) -> None:
    words = ["train", "x-7-35-7", "--layers", 5, "--data", pictures, "--image-size", 16, "--epochs", 1]
    words += ["--batch-size", 50, "--learning-rate", 0.001, "--log-interval", 1]
    assert call(*words, "--output", tmp_path / "one") == 0
    started = torchrun(tmp_path / "cache", *words, "--output", tmp_path / "two")
    _, err = started.communicate(timeout=300)
    assert started.returncode == 0, err
    alone, together = (
        [line["loss"] for line in metrics(tmp_path / n) if line["kind"] == "train"] for n in ("one", "two")
    )
    assert len(alone) == 3
    assert together == pytest.approx(alone, rel=1e-4)
    assert result(tmp_path / "two")["images"] == result(tmp_path / "one")["images"]


def test_a_killed_process_ends_the_job_which_resumes(tmp_path: Path, pictures: Path) -> None:
    run = tmp_path / "run"
    words = ["search", "--data", pictures, "--output", run, *TINY, "--epochs", "200", "--checkpoint-seconds", "0"]
    job = torchrun(tmp_path / "cache", *words)
    deadline = time.monotonic() + 200
    while len(metrics(run)) < 3:
        assert job.poll() is None, job.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    os.kill(_second_of(job), signal.SIGKILL)
    _, err = job.communicate(timeout=200)
    assert job.returncode != 0
    assert "vaenas: another process of this job has ended, so this one can't go on; resume with: vaenas search " in err
    assert not (run / "result.json").exists()
    before = len(metrics(run))
    job = torchrun(tmp_path / "cache", "search", "--resume", run)
    while len(metrics(run)) < before + 3:
        assert job.poll() is None, job.communicate()[1]
        assert time.monotonic() < deadline + 200
        time.sleep(0.2)
    job.send_signal(signal.SIGTERM)  # torchrun passes it on; both stop at one record
    _, err = job.communicate(timeout=200)
    assert "stopped and saved; go on with: vaenas search --resume" in err


def _second_of(job: "subprocess.Popen[str]") -> int:
    """The process with rank 1."""
    for file in Path("/proc").glob("[0-9]*/environ"):
        try:
            facts = file.read_bytes().split(b"\0")
            parent = (file.parent / "status").read_text().split("PPid:\t")[1].split("\n")[0]
        except OSError:
            continue
        if parent == str(job.pid) and b"RANK=1" in facts:
            return int(file.parent.name)
    raise AssertionError("no second process")
