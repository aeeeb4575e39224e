import os
import signal
import subprocess
import sys
import time

import pytest

from vaenas.commands.signals import Interrupted
from vaenas.data.cache import content_digest
from vaenas.data.decode import in_threads, process_pool


class Signalled:
    """Items whose worker gets all signals that a terminal sends to the group."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, row: int) -> int:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), number)
        return row


def test_workers_leave_signals_to_their_parent():
    assert [*process_pool(Signalled(), 2, batch_size=2)] == [[0, 1], [2, 3]]


def test_the_first_signal_ends_threads():
    def interrupted(number: int) -> None:
        time.sleep(0.2)
        raise Interrupted(signal.SIGINT)

    began = time.monotonic()
    with pytest.raises(Interrupted):
        in_threads(interrupted, range(20), 1)
    assert time.monotonic() - began < 1


def test_the_first_signal_ends_the_reading_of_files(tmp_path, monkeypatch):
    def slow(*_: object) -> str:
        time.sleep(0.2)
        return ""

    def interrupted(*_: object) -> None:
        raise Interrupted(signal.SIGALRM)

    (tmp_path / "file").touch()
    monkeypatch.setattr("vaenas.data.cache.file_digest", slow)
    before = signal.signal(signal.SIGALRM, interrupted)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    began = time.monotonic()
    with pytest.raises(Interrupted):
        content_digest([tmp_path / "file"] * 1000, tmp_path, tmp_path / "memory")
    assert time.monotonic() - began < 1
    signal.signal(signal.SIGALRM, before)


def test_no_shared_memory():
    code = "from vaenas.data.decode import check_shared_memory; check_shared_memory(2)"
    words = ["unshare", "-m", "sh", "-c", f'mount --bind /proc/sys /dev/shm && exec "$0" -c "{code}"', sys.executable]
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    done = subprocess.run(words, capture_output=True, text=True)
    assert "UserError: --workers 2: the processes that decode share memory, which this system refuses" in done.stderr
