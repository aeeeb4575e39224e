"""Kills, or fails, small commands at each change of a file in turn, then goes on: `python -m tests.robustness.faults`.

A shim (shim.c, preloaded) counts what the command's process changes below its folder: files opened for writing,
written, cut, moved, synced, removed, folders made. For each such event and each fault the command runs to it, then goes
on without faults, as a user would: with `--resume` where there is a folder, else the same again. It must end as the run
that nothing happened to: the same files, the same bits in all that is not time.

Every run is forked from this process, which has imported everything. One thing differs from a command of its own
process: the workers of `bench curves` are forked, not spawned, since starting them takes seconds; they write nothing.
"""

import argparse
import ctypes
import errno
import gc
import json
import multiprocessing.context
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.robustness.commands import (
    BEFORE,
    COMMANDS,
    Command,
    complaint,
    difference,
    ends,
    forked,
    machine,
    make_shared,
    plain_name,
    preload,
    words,
)

SHIM = Path(__file__).with_name("shim.c")
PRELOADED = "VAENAS_TEST_SHIM"
LIMIT = 120.0  # seconds a run may take

# name: (number in shim.c, errno, classes of events that it makes sense for). Classes, as in shim.c: a file Opened for
# writing, Written, Cut, Renamed, Linked, Synced, Unlinked (folders, too), Truncated by its path, a folder Made.
# A kill before event n + 1 is one after event n.
FAULTS = {
    "kill": (1, 0, "OWCRLSUTM"),
    "half": (2, 0, "W"),
    "ENOSPC": (4, errno.ENOSPC, "OWRLSM"),  # from then on, too: a full disk stays full
    "EACCES": (3, errno.EACCES, "ORLUTM"),  # once
    "EIO": (3, errno.EIO, "OWCRLSUTM"),  # once
    "SIGINT": (5, signal.SIGINT, "OWCRLSUTM"),
    "second": (5, signal.SIGSTOP, "OWCRLSUTM"),  # held there while a second process wants to go on
}


@dataclass(frozen=True)
class Event:
    kind: str
    call: str
    size: int
    path: str


@dataclass(frozen=True)
class Ended:
    code: int  # minus the signal
    err: str
    events: list[Event]


def compiled(folder: Path) -> Path:
    """The shim; raises `FileNotFoundError` where there is no C compiler."""
    library = folder / "shim.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, SHIM, "-ldl"], check=True)
    return library


def run(
    arguments: list[str],
    cache: str,
    watched: Path,
    log: Path,
    fault: str = "",
    at: int = 0,
    meanwhile: Callable[[], None] | None = None,
) -> Ended:
    """`vaenas ARGUMENTS` in a fork of this process, hurt at event number `at` below `watched`.

    `meanwhile` is called while it is held, where the fault is that.
    """
    number, error, _ = FAULTS.get(fault, (0, 0, ""))
    events = log.with_suffix(".events")

    def arm() -> None:
        os.setsid()
        contexts = multiprocessing.context._concrete_contexts  # type: ignore[attr-defined]
        contexts["spawn"] = contexts["fork"]
        descriptor = os.open(events, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        ctypes.CDLL(os.environ[PRELOADED]).arm(str(watched).encode(), at, number, error, descriptor)

    child = forked(arguments, cache, log, arm)
    watch = os.pidfd_open(child)
    if (
        meanwhile is not None
        and (held := os.waitid(os.P_PID, child, os.WSTOPPED | os.WEXITED | os.WNOWAIT))
        and held.si_code == os.CLD_STOPPED
    ):
        meanwhile()
        os.kill(child, signal.SIGCONT)
    if not select.select([watch], [], [], LIMIT)[0]:
        os.kill(child, signal.SIGALRM)  # told from the kills that are meant
    os.close(watch)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # workers that outlive it: signals.py complains of them
    rows = (line.split(" ", 3) for line in events.read_text(errors="replace").splitlines())
    found = [Event(kind, call, int(size), plain_name(Path(path), watched)) for kind, call, size, path in rows]
    return Ended(code, log.with_suffix(".err").read_text(errors="replace"), found)


FEWER = {"gradient": ("kill", "ENOSPC", "SIGINT"), "run": ("SIGINT", "second")}  # in CI

# Of `vaenas run`; what another command writes is all of the last, but for its start.
STAGES = ("out/search", "out/training", "out/")


def _worked(events: list[Event]) -> bool:
    return any(event.path.endswith(".jsonl") for event in events)


def went_on(events: list[Event]) -> bool:
    """Whether a command did not stop at the first of these: more steps follow, or another stage."""
    stages = [
        next((i for i, start in enumerate(STAGES, start=1) if event.path.startswith(start)), 0)
        for event in events
        if event.path != "out/run.yaml"
    ]
    steps = sum(event.kind == "O" and event.path.endswith("metrics.jsonl") for event in events[1:])
    return steps > 1 or max(stages) > stages[0]


class Harness:
    """The commands in `root`, a folder of its own, and their ends when nothing happens to them."""

    def __init__(self, root: Path, names: list[str]) -> None:
        self.shared = root / "shared"
        self.root = root
        make_shared(self.shared)
        self.expected: dict[str, dict[str, Any]] = {}
        self.events: dict[str, list[Event]] = {}
        for name, begin in BEFORE.items():
            self._whole(Command(begin), self.shared / name, self.shared)
        for name in names:
            case = self._case(name)
            self.events[name] = self._whole(COMMANDS[name], case / "out", case)
            self.expected[name] = ends(case)

    def _case(self, name: str) -> Path:
        case = self.root / name
        shutil.rmtree(case, ignore_errors=True)
        case.mkdir(parents=True)
        return case

    def _run(
        self, command: Command, template: list[str], out: Path, watched: Path, *hurt: Any, log: str = "log"
    ) -> Ended:
        cache = command.cache.format(shared=self.shared, out=out)
        return run(words(template, self.shared, out), cache, watched, self.root / log, *hurt)

    def _go_on(self, command: Command, out: Path, watched: Path, log: str = "log") -> list[Ended]:
        """As a user would: resumes what is there, else begins again; every try, the last is the one that counts."""
        ways = [command.begin] if command.resume is None or not out.exists() else [command.resume, command.begin]
        tries: list[Ended] = []
        while ways and (not tries or tries[-1].code == 2):
            tries.append(self._run(command, ways.pop(0), out, watched, log=log))
        return tries

    def _whole(self, command: Command, out: Path, watched: Path) -> list[Event]:
        ended = self._run(command, command.begin, out, watched)
        if ended.code:
            sys.exit(f"{command.begin}: exit code {ended.code}: {ended.err}")
        return ended.events

    def hurt(self, name: str, fault: str, at: int) -> str | None:
        """Runs the command to the fault, and on: what is wrong, or None."""
        command, case = COMMANDS[name], self._case(name)
        out, others = case / "out", list[Ended]()

        def second() -> None:
            others.extend(self._go_on(command, out, case, "second"))

        ended = self._run(command, command.begin, out, case, fault, at, second if fault == "second" else None)
        if fault in ("kill", "half"):
            if ended.code != -signal.SIGKILL:
                return f"not killed: exit code {ended.code}: {ended.err[-300:]}"
        elif wrong := complaint(ended.code, ended.err, (130, 0) if fault == "SIGINT" else (2, 0)):
            return wrong
        elif fault == "SIGINT" and ended.code == 0 and went_on(ended.events[at - 1 :]):
            return "SIGINT is swallowed"
        for other in others:
            if wrong := complaint(other.code, other.err, (2, 0)):
                return f"the second process: {wrong}"
            # One after the other is well: then the later one finds everything done.
            if ended.code == other.code == 0 and all(map(_worked, (ended.events[at:], other.events))):
                return "both worked on it"
        said = ""
        if ended.code and not any(other.code == 0 for other in others):
            tries = self._go_on(command, out, case)
            said = "".join(f"; exit code {one.code}: {one.err.strip()[-300:]}" for one in tries if one.code)
            if tries[-1].code:
                return "can go neither way" + said
        changed = difference(ends(case), self.expected[name])
        return changed and changed + (" (without a word: exit code 0)" if ended.code == 0 else "") + said

    def cases(self, name: str, every: int) -> list[tuple[str, str, int]]:
        """Command, fault, and event: every event, or every so many of each fault."""
        return [(name, fault, at) for fault in FAULTS for at in self._events(name, fault)[::every]]

    def sample(self, name: str) -> list[tuple[str, str, int]]:
        """One case of each fault, spread over the run, at other parts of it for another command.

        The slow ones have fewer: they write as `search` and `train` do. Of `run` a kill between each two stages.
        """
        turn, chosen = list(COMMANDS).index(name), []
        for i, fault in enumerate(FEWER.get(name, FAULTS)):
            events = self._events(name, fault)
            place = ((i + turn) % len(FAULTS) + 0.5) / len(FAULTS)
            chosen.append((name, fault, events[int(place * len(events))]))
        for stage in STAGES if name == "run" else ():
            at = next(i for i, event in enumerate(self.events[name], start=1) if event.path.startswith(stage))
            chosen.append((name, "kill", at))
        return chosen

    def named(self, name: str, fault: str, at: int) -> dict[str, Any]:
        """A case as the results have it."""
        return {"command": name, "fault": fault, "number": at, **asdict(self.events[name][at - 1])}

    def _events(self, name: str, fault: str) -> list[int]:
        return [i for i, event in enumerate(self.events[name], start=1) if event.kind in FAULTS[fault][2]]


def work(harness: Harness, cases: list[tuple[str, str, int]], part: int, parts: int, results: Path) -> None:
    """Every `parts`-th case, each a line that is added to `results`."""
    harness.root = harness.root / str(part)
    harness.root.mkdir()
    with results.open("a") as file:
        for i, (name, fault, at) in enumerate(cases[part::parts]):
            wrong = harness.hurt(name, fault, at)
            print(json.dumps({**harness.named(name, fault, at), "wrong": wrong}), file=file, flush=True)
            event = harness.events[name][at - 1]
            if wrong or i % 50 == 0:
                place = f"{name}: {fault} at {at}, {event.call} {event.path}: {wrong or 'well'}"
                print(f"{i * parts}/{len(cases)} {place}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--commands", default=",".join(COMMANDS), help="with commas between [all]")
    parser.add_argument("--every", type=int, default=1, help="only every so many events")
    parser.add_argument("--sample", action="store_true", help="the cases of CI")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--output", type=Path, help="JSON of counts and failures; goes on with the cases beside it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vaenas-faults-") as folder:
        if PRELOADED not in os.environ:  # start anew with the shim
            library = str(compiled(Path(folder)))
            environment = {**os.environ, "LD_PRELOAD": library, PRELOADED: library, "OMP_NUM_THREADS": "1"}
            again = [sys.executable, "-m", "tests.robustness.faults", *sys.argv[1:]]
            sys.exit(subprocess.run(again, env=environment).returncode)
        begun = time.monotonic()
        preload()
        names = options.commands.split(",")
        harness = Harness(Path(folder), names)
        chosen = (harness.sample(n) if options.sample else harness.cases(n, options.every) for n in names)
        cases = [case for some in chosen for case in some]
        random.Random(0).shuffle(cases)
        results = (options.output or Path(folder, "cases")).with_suffix(".jsonl")
        known = results.read_text().splitlines() if results.exists() else []
        well = [{name: case[name] for name in case if name != "wrong"} for case in map(json.loads, known)]
        left = [case for case in cases if harness.named(*case) not in well]
        print(f"{len(left)} of {len(cases)} cases to do, after {time.monotonic() - begun:.0f} s", flush=True)
        gc.freeze()
        workers = []
        for part in range(options.jobs):
            workers.append(os.fork())
            if workers[-1] == 0:
                work(harness, left, part, options.jobs, results)
                os._exit(0)
        states = [os.waitpid(worker, 0)[1] for worker in workers]
        if any(states):
            sys.exit("a worker died")
        done = [json.loads(line) for line in results.read_text().splitlines()]
    failures = [case for case in done if case["wrong"]]
    figures = {
        **machine(),
        "seconds": round(time.monotonic() - begun),
        "cases": len(done),
        "failures": len(failures),
        "commands": {
            name: {
                "events": len(harness.events[name]),
                "cases": Counter(case["fault"] for case in done if case["command"] == name),
                "failures": sum(case["command"] == name for case in failures),
            }
            for name in names
        },
        "failed": failures,
    }
    if options.output:
        options.output.write_text(json.dumps(figures, indent=1) + "\n")
    print(f"{len(done)} cases, {len(failures)} failures, {figures['seconds']} s")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
