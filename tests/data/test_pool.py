import os
import signal
import subprocess
import sys
import time

import pytest

from vaenas.commands.signals import Interrupted
from vaenas.data.pool import process_pool, thread_pool


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
    def interrupted():
        with thread_pool(1) as pool:
            for _ in range(20):
                pool.submit(time.sleep, 0.2)
            raise Interrupted(signal.SIGINT)

    began = time.monotonic()
    with pytest.raises(Interrupted):
        interrupted()
    assert time.monotonic() - began < 1


def test_no_shared_memory():
    code = "from vaenas.data.pool import check_shared_memory; check_shared_memory(2)"
    words = ["unshare", "-m", "sh", "-c", f'mount --bind /proc/sys /dev/shm && exec "$0" -c "{code}"', sys.executable]
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    done = subprocess.run(words, capture_output=True, text=True)
    assert "UserError: --workers 2: the processes that decode share memory, which this system refuses" in done.stderr
