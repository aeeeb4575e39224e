"""What machine this is, and how many of its cores a run takes.

Torch's threads wait for each other after every operation, and they spin while they wait: beside one other busy process
as many threads as cores make a search several times slower than one thread, so only cores that are free are taken.
"""

import math
import os
import platform
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path, PurePosixPath

import torch

import vaenas

# Read before anyone changes them: Lightning sets the variable, `take_threads` torch's number.
SAID = re.match(r"\s*[1-9]", os.environ.get("OMP_NUM_THREADS", "")) is not None
DEFAULT = torch.get_num_threads()  # physical cores, or what OMP_NUM_THREADS says
WINDOW = 0.2  # seconds in which the load is measured; the system counts in hundredths
IGNORED = 0.25  # of a core: what little else runs on any machine


def environment(device: torch.device) -> dict[str, str | int]:
    """What a run's bits, or its speed, depend on beside its settings."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": version("torchvision"),
        "vaenas": vaenas.__version__,
        "threads": torch.get_num_threads(),
        "cpu": _cpu(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }


def differences(begun: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """What differs between two environments: "torch 2.14.1 -> 2.15.0"."""
    changed = [name for name in {**begun, **now} if begun.get(name) != now.get(name)]
    return [f"{name} {begun.get(name, 'unknown')} -> {now.get(name, 'unknown')}" for name in changed]


def describe_device(device: torch.device) -> str:
    """The processor and what else decides how fast it is here."""
    facts = environment(device)
    processor = facts["device"] if device.type == "cuda" else f"{facts['cpu']}, {facts['threads']} threads"
    return f"{processor}, torch {facts['torch']}"


def _cpu() -> str:
    with suppress(OSError):
        model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if model:
            return model[1].strip()
    return platform.processor() or platform.machine()


def choose_threads(recorded: int | None = None, processes: int = 1) -> tuple[int, str]:
    """How many threads this process takes, and why: "2 of 2 cores are free"; "" where there is nothing to choose.

    Args:
        recorded: how many the run began with that is resumed: its bits depend on it.
        processes: how many share this machine.
    """
    here = cores()
    most = max(1, min(DEFAULT, here // processes))
    if SAID or most == 1:
        return DEFAULT if SAID else 1, ""
    if recorded is not None:
        return min(recorded, most), "as the run began"
    free = max(0, math.floor(here - _busy() + IGNORED))
    return max(1, min(most, free // processes)), f"{free} of {here} cores are free"


def cores() -> int:
    """How many cores this process may use: those of its affinity, or fewer if its control group has a quota."""
    with suppress(OSError):  # elsewhere than on Linux
        return max(1, int(min(len(_affinity()), quota(Path("/proc/self/cgroup").read_text(), Path("/sys/fs/cgroup")))))
    return len(_affinity())


def _affinity() -> Sequence[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)


def quota(groups: str, root: Path) -> float:
    """How many CPUs' time the groups of /proc/self/cgroup, version 1 or 2, allow; they are mounted at `root`."""
    allowed = [math.inf]
    for _, controllers, path in (line.split(":", 2) for line in groups.splitlines()):
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / "cpu" if controllers else root
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
        # In a container the path is the host's, but the container's group is mounted as the root.
        for group in (PurePosixPath(path), *PurePosixPath(path).parents):
            with suppress(OSError, ValueError):  # no such file, or "max"
                of, period = map(int, " ".join((base / f".{group}" / name).read_text() for name in names).split())
                allowed.append(of / period if of > 0 else math.inf)
    return min(allowed)


def _busy() -> float:
    """How many of this process's cores others use now; the last minute's load where the system has no /proc/stat."""
    stat = Path("/proc/stat")
    try:
        before = stat.read_text()
        time.sleep(WINDOW)
        return busy_cores(before, stat.read_text(), _affinity())
    except OSError:
        return os.getloadavg()[0]


def busy_cores(before: str, after: str, cpus: Sequence[int]) -> float:
    """How many of `cpus` were at work, on average, between two readings of /proc/stat."""

    def times(text: str, cpu: int) -> list[int]:
        found = re.search(rf"^cpu{cpu} (.+)$", text, re.MULTILINE)
        return [int(number) for number in found[1].split()[:8]] if found else [0] * 8  # guests count in user time

    busy = 0.0
    for cpu in cpus:
        passed = [b - a for a, b in zip(times(before, cpu), times(after, cpu), strict=True)]
        idle = passed[3] + passed[4]  # waiting for a disk is idle, too
        busy += 1 - idle / sum(passed) if sum(passed) > 0 else 0.0
    return busy
