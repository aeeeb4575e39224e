"""How many cores are free: affinity, control groups, load; and how machines are told apart."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vaenas import machine

V2 = {"a/b/cpu.max": "max 100000", "a/cpu.max": "250000 100000"}
V1 = {"cpu/cpu.cfs_quota_us": "150000", "cpu/cpu.cfs_period_us": "100000"}
NONE = {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}


@pytest.mark.parametrize(
    ("files", "groups", "expected"),
    [
        (V2, "0::/a/b\n", 2.5),  # the parent's
        (V2, "0::/\n", float("inf")),
        (V1, "4:memory:/x\n2:cpu,cpuacct:/docker/1234\n0::/\n", 1.5),  # a container sees its own group as the root
        (NONE, "1:cpu:/\n", float("inf")),
        ({"cpu.max": "nonsense"}, "0::/\n", float("inf")),
    ],
)
def test_quota(files: dict[str, str], groups: str, expected: float, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{content}\n")
    assert machine.quota(groups, tmp_path) == expected


def test_busy_cores() -> None:
    """One core at work all the time, one for a tenth, one that another virtual machine has; the last isn't ours."""
    names = ("cpu ", "cpu0", "cpu1", "cpu2", "cpu3")
    began = ["9 9", "100 0 0 500 0 0 0 0 0 0", "0 0 0 0 0 0 0 0 0 0", "5 0 0 5 0 0 0 0", "0 0 0 0 0 0 0 0"]
    ended = ["9 9", "115 0 5 500 0 0 0 0 0 0", "1 1 0 15 3 0 0 0 0 0", "5 0 0 5 0 0 0 20", "9 0 0 0 0 0 0 0"]
    before, after = ("".join(f"{name} {line}\n" for name, line in zip(names, x, strict=True)) for x in (began, ended))
    assert machine.busy_cores(before, after, [0, 1, 2]) == pytest.approx(2.1)
    assert machine.busy_cores(after, after, [0, 7]) == 0


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(machine, "SAID", False)
    monkeypatch.setattr(machine, "DEFAULT", 8)
    monkeypatch.setattr(machine, "cores", lambda: 8)
    return monkeypatch


@pytest.mark.parametrize(
    ("busy", "processes", "expected"),
    [(0.2, 1, (8, 8)), (1.0, 1, (7, 7)), (1.3, 1, (6, 6)), (9.0, 1, (1, 0)), (0.0, 3, (2, 8)), (2.0, 2, (3, 6))],
)
def test_threads_by_what_is_free(
    busy: float, processes: int, expected: tuple[int, int], eight_cores: pytest.MonkeyPatch
) -> None:
    eight_cores.setattr(machine, "_busy", lambda: busy)
    threads, free = expected
    assert machine.choose_threads(processes=processes) == (threads, f"{free} of 8 cores are free")


def test_a_resumed_run_or_the_user_says_it(eight_cores: pytest.MonkeyPatch) -> None:
    assert machine.choose_threads(recorded=3) == (3, "as the run began")
    assert machine.choose_threads(recorded=100)[0] == 8
    eight_cores.setattr(machine, "SAID", True)
    assert machine.choose_threads(recorded=3) == (8, "")


def test_beside_busy_processes_one_thread_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SAID", False)
    monkeypatch.setattr(machine, "DEFAULT", 8)
    if machine.cores() == 1:
        pytest.skip("one core: nothing to choose")
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * machine.cores())]
    try:
        assert machine.choose_threads() == (1, f"0 of {machine.cores()} cores are free")
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_the_environment_and_what_differs() -> None:
    found = machine.environment(torch.device("cpu"))
    assert {"python", "torch", "torchvision", "vaenas", "threads", "cpu", "cpu_capability", "device"} == found.keys()
    assert {type(value) for value in found.values()} == {str, int}
    assert found["threads"] == torch.get_num_threads()
    assert machine.differences(found, found) == []
    assert machine.differences({**found, "torch": "2.0", "old": 1}, found) == [
        f"torch 2.0 -> {found['torch']}", "old 1 -> unknown"
    ]  # fmt: skip
