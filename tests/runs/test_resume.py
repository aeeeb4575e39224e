"""A run that is killed at a random moment of each phase, and resumed, ends in the same bits as one that was not."""

import json
import random
import signal
import time
from pathlib import Path

from tests.runs.command import BUILTIN, assert_same_end, metrics, run, start

STEPS, INTERVAL, ROUNDS = 36, 18, 3


def phase(path: Path) -> str:
    """What a run is doing, by its last line of metrics."""
    lines = metrics(path)
    if not lines:
        return "start"
    last = lines[-1]
    if last["kind"] == "train" and last["step"] < STEPS:  # the last step of an interval is told after its update
        return "ranking" if (last["step"] + 1) % INTERVAL == 0 else "train"
    if last["kind"] == "update":
        return "train"
    return "last stage" if last.get("round", 0) < ROUNDS - 1 else "comparison"


def seconds_of_phases(path: Path) -> dict[str, float]:
    """How long the whole run spent in each, one spell of it."""
    times = {}
    for line in (json.loads(text) for text in (path / "metrics.jsonl").read_text().splitlines()):
        times[line["kind"], line.get("round", line["step"])] = line["seconds"]
    update, train, last = times["update", STEPS], times["train", STEPS], times["surrogate", ROUNDS - 1]
    return {
        "start": 0.0, "train": train / 3, "ranking": update - times["train", STEPS - 1],
        "last stage": (last - train) / 2, "comparison": times["comparison", STEPS] - last,
    }  # fmt: skip


def kill_in(wanted: str, spell: float, begun: bool, path: Path, words: list[object]) -> str:
    """Runs until `wanted` is reached, waits `spell` and kills. Gives the phase in which it died."""
    out = path.parent / "out"
    process = start(*words, stdout=out)
    deadline = time.monotonic() + 300
    # The first line of output comes when what a resumed run does not need is cut off.
    while not (out.stat().st_size if begun else (path / "config.yaml").exists()) or phase(path) != wanted:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(spell)
    process.kill()
    _, err = process.communicate()
    assert process.returncode == -signal.SIGKILL, err
    return phase(path)


LEARNED_PHASES = ["start", "train", "ranking", "last stage", "comparison"]


def test_killed_in_every_phase(tmp_path: Path, cache: Path) -> None:
    """One run, killed at a random moment of each phase, the first time as soon as its folder is there.

    That is about when the first checkpoint is written; tests/runs/test_stop.py kills exactly before, while and after.
    """
    expected, rng, phases = tmp_path / "whole", random.Random(1), LEARNED_PHASES
    done = run(cache, "search", "--output", expected, *BUILTIN)
    assert done.returncode == 0, done.stderr
    spells, path = seconds_of_phases(expected), tmp_path / "run"
    died = []
    for i, wanted in enumerate(phases):
        words = ["--resume", path] if i else ["--output", path, *BUILTIN]
        died.append(kill_in(wanted, rng.uniform(0, 0.4) * spells[wanted], i > 0, path, words))
    assert set(died) == set(phases)
    done = run(cache, "search", "--resume", path)
    assert done.returncode == 0, done.stderr
    assert_same_end(path, expected)
