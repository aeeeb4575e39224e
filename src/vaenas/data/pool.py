"""Threads and processes that decode images, and what signals do to them."""

import multiprocessing
import signal
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import DataLoader

from vaenas.errors import UserError


@contextmanager
def thread_pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Threads whose queued work is dropped when the block ends: the pool's own `with` would do all of it first."""
    pool = ThreadPoolExecutor(threads)
    try:
        with warnings.catch_warnings():
            _ignore_odd_metadata()
            yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def process_pool(dataset: Any, workers: int, **batching: Any) -> DataLoader:
    """Processes that decode a data set's batches, each a list of its items."""
    # With a generator of its own: else making a loader would move torch's, and a resumed run makes one more.
    return DataLoader(
        dataset, num_workers=workers, collate_fn=list, generator=torch.Generator(), worker_init_fn=_start_worker,
        **batching,
    )  # fmt: skip


def _start_worker(worker: int) -> None:
    """A terminal and a job scheduler signal all processes of a group; the one that decides ends its workers itself."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _ignore_odd_metadata()


def _ignore_odd_metadata() -> None:
    """It is no reason to stop; images that are too large are refused when they are opened."""
    warnings.filterwarnings("ignore", module="PIL")


def check_shared_memory(workers: int) -> None:
    """Raises `UserError` if processes have no memory to share, as in a container without /dev/shm."""
    try:
        multiprocessing.Lock()
        torch.zeros(1).share_memory_()
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"--workers {workers}: the processes that decode share memory, which this system refuses "
            f"({str(error).splitlines()[0]}); mount /dev/shm, or use --workers 0"
        ) from None
