"""Chains of commands that signals stop at random moments: `python -m tests.robustness.signals`.

A chain is one command: it is begun, gets a signal, goes on as a user would go on, gets another, and at last ends
without one. Its end must be that of the command that no signal met. Most are forked from this process, with Python's
own signal handling put back and in a session of their own; some, and all of `bench curves` with its workers, are
started anew.
"""

import argparse
import json
import os
import random
import select
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
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
    preload,
    words,
)

# What is sent, at once or one after the other, and the exit codes that it may lead to; 0 where the end came first.
SIGNALS: dict[str, tuple[list[signal.Signals], tuple[int, ...]]] = {
    "INT": ([signal.SIGINT], (130, 0)),
    "INT INT": ([signal.SIGINT, signal.SIGINT], (130, 0)),
    "TERM": ([signal.SIGTERM], (143, 0)),
    "HUP": ([signal.SIGHUP], (129, 0)),
    "KILL": ([signal.SIGKILL], (-signal.SIGKILL, 0)),
    "STOP CONT": ([signal.SIGSTOP, signal.SIGCONT], ()),  # it lives on
}
CHAINED = ("search", "gradient", "train", "run", "curves")
LONGEST = 6  # signals of a chain
STARTED = 0.2  # share of the processes that are not forked
LIMIT = 120.0  # seconds


class Process:
    """A command under way, in a session of its own."""

    def __init__(self, arguments: list[str], cache: str, log: Path, fork: bool) -> None:
        self.log = log
        if fork:
            self.number = forked(arguments, cache, log, _alone)
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            self.number = os.posix_spawn(
                sys.executable,
                [sys.executable, "-m", "vaenas", *arguments],
                {**os.environ, "VAENAS_CACHE": cache},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, stream, log.with_suffix(suffix), flags, 0o666)
                    for stream, suffix in ((1, ".out"), (2, ".err"))
                ],
                setsid=True,
            )
        self._watch = os.pidfd_open(self.number)

    def ends_within(self, seconds: float) -> bool:
        return bool(select.select([self._watch], [], [], seconds)[0])

    def end(self) -> tuple[int, str]:
        """Exit code, minus a signal's number, and what it said on stderr."""
        if not self.ends_within(LIMIT):
            os.kill(self.number, signal.SIGALRM)
        os.close(self._watch)
        code = os.waitstatus_to_exitcode(os.waitpid(self.number, 0)[1])
        return code, self.log.with_suffix(".err").read_text(errors="replace")

    def orphans(self) -> list[int]:
        """Processes of its session that outlive it by ten seconds; they are ended here."""
        deadline = time.monotonic() + 10
        while (left := _session(self.number)) and time.monotonic() < deadline:
            time.sleep(0.05)
        for number in left:
            os.kill(number, signal.SIGKILL)
        return left


def _alone() -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _session(number: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = path.read_text().rsplit(")", 1)[1].split()[:4]
        except OSError:  # has ended meanwhile
            continue
        if int(session) == number and state != "Z":
            found.append(int(path.parent.name))
    return found


def phase(out: Path) -> str:
    """What a command is at, by what it wrote last."""
    written = sorted(out.rglob("*.jsonl"), key=lambda path: path.stat().st_mtime)
    lines = written[-1].read_text().split("\n")[:-1] if written else []
    if not lines:
        return "begun" if out.exists() else "start"
    if (written[-1].parent / "result.json").exists() or (out / "curves.json").exists():
        return "end"
    stage = f"{written[-1].parent.name} " if written[-1].parent != out else ""
    return stage + json.loads(lines[-1]).get("kind", "curves")


class Chains:
    """The chains in `root`, a folder of its own; what happened stands in the attributes."""

    def __init__(self, root: Path, names: list[str], seed: int) -> None:
        self.root, self.shared, self.rng = root, root / "shared", random.Random(seed)
        make_shared(self.shared)
        for name, begin in BEFORE.items():
            self._whole(Command(begin), self.shared / name, fork=True)
        self.seconds: dict[tuple[str, bool], float] = {}
        self.expected: dict[str, dict[str, Any]] = {}
        for name in names:
            for fork in (True, False):
                out = root / name / "out"
                shutil.rmtree(out.parent, ignore_errors=True)
                out.parent.mkdir()
                if fork and name == "curves":
                    continue
                self.seconds[name, fork] = self._whole(COMMANDS[name], out, fork)
                self.expected[name] = ends(out.parent)
        self.sent: dict[str, Counter[str]] = defaultdict(Counter)
        self.phases: dict[str, Counter[str]] = defaultdict(Counter)
        self.chains: Counter[str] = Counter()
        self.different: list[dict[str, Any]] = []
        self.complaints: list[dict[str, Any]] = []

    def _start(self, command: Command, template: list[str], out: Path, fork: bool) -> Process:
        cache = command.cache.format(shared=self.shared, out=out)
        return Process(words(template, self.shared, out), cache, self.root / "log", fork)

    def _whole(self, command: Command, out: Path, fork: bool) -> float:
        begun = time.monotonic()
        code, err = self._start(command, command.begin, out, fork).end()
        if code:
            sys.exit(f"{command.begin}: exit code {code}: {err}")
        return time.monotonic() - begun

    @property
    def signals(self) -> int:
        return sum(sum(counts.values()) for counts in self.sent.values())

    def chain(self, name: str, most: int) -> None:
        """One chain of at most so many signals."""
        command, case = COMMANDS[name], self.root / name
        shutil.rmtree(case, ignore_errors=True)
        case.mkdir()
        out, told, left = case / "out", [], min(most, LONGEST)
        template, code = command.begin, None
        while code != 0:
            fork = name != "curves" and self.rng.random() > STARTED
            process = self._start(command, template, out, fork)
            expected: tuple[int, ...] = (0,)
            while left and not process.ends_within(self.rng.uniform(0, 0.9) * self.seconds[name, fork]):
                kind = self.rng.choices(list(SIGNALS), [3, 2, 3, 3, 4, 3])[0]
                at = phase(out)
                numbers, codes = SIGNALS[kind]
                for i, number in enumerate(numbers):
                    if i and process.ends_within(self.rng.uniform(0, 0.3)):
                        break
                    os.kill(process.number, number)
                left -= 1
                self.sent[name][kind] += 1
                self.phases[name][at] += 1
                told.append(f"{kind} at {at}{'' if fork else ', started'}")
                if codes:
                    expected = codes
                    if at == "start" or not fork:  # Python itself starts, or ends
                        expected += (-numbers[0],)
                    break
            code, err = process.end()
            if code == 2 and template == command.resume and "Traceback" not in err:  # there was nothing to resume yet
                template = command.begin
                continue
            wrong = complaint(code, err, expected)
            if orphans := process.orphans():
                wrong = f"{wrong or ''} {len(orphans)} orphans"
            if wrong:
                self.complaints.append({"command": name, "chain": list(told), "wrong": wrong})
            if code not in expected and (expected == (0,) or code in (2, -signal.SIGALRM)):
                break  # no signal, and no end
            template = command.resume if command.resume is not None and out.exists() else command.begin
        self.chains[name] += 1
        changed = difference(ends(case), self.expected[name])
        if changed:
            self.different.append({"command": name, "chain": told, "wrong": changed})
        state = changed or "the same"
        print(f"{self.signals} signals; {name}: {'; '.join(told) or 'no signal'}: {state}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--commands", default=",".join(CHAINED), help="with commas between [all]")
    parser.add_argument("--signals", type=int, default=200, help="how many, in all")
    parser.add_argument("--seed", type=int, default=0, help="of kinds and moments")
    parser.add_argument("--output", type=Path, help="JSON of counts, differences and complaints")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    begun = time.monotonic()
    preload()
    names = options.commands.split(",")
    with tempfile.TemporaryDirectory(prefix="vaenas-signals-") as folder:
        chains = Chains(Path(folder), names, options.seed)
        while chains.signals < options.signals:
            name = min(names, key=lambda name: sum(chains.sent[name].values()))
            chains.chain(name, options.signals - chains.signals)
    figures = {
        **machine(),
        "seconds": round(time.monotonic() - begun),
        "signals": chains.signals,
        "chains": chains.chains,
        "sent": chains.sent,
        "phases": chains.phases,
        "different": chains.different,
        "complaints": chains.complaints,
    }
    if options.output:
        options.output.write_text(json.dumps(figures, indent=1) + "\n")
    failures = len(chains.different) + len(chains.complaints)
    print(f"{chains.signals} signals, {len(chains.different)} different results, {len(chains.complaints)} complaints")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
