"""Jobs in processes of their own, which end with this one."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context, parent_process
from typing import TypeVar

import torch

from vaenas.errors import UserError
from vaenas.machine import cores

R = TypeVar("R")


def run_jobs(call: Callable[..., R], jobs: Iterable[tuple], workers: int | None) -> Iterator[R]:
    """Yields `call(*job)` of each job, as they end; stopped in between, by a signal too, it ends the workers at once.

    Args:
        call: a function of a module.
        workers: how many processes, of one thread each; None: one a core.

    Raises:
        UserError: a worker was killed.
    """
    others = set(active_children())
    with ProcessPoolExecutor(workers or cores(), mp_context=get_context("spawn"), initializer=_begin) as pool:
        try:
            # Ctrl-C in a terminal goes to the workers as well: from their first moment they leave it to this process.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                futures = [pool.submit(call, *job) for job in jobs]
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise UserError(
                "a worker process was killed, perhaps since memory ran out: lower --workers and start again to go on"
            ) from None
        except BaseException:
            for worker in set(active_children()) - others:
                worker.kill()
            pool.shutdown(cancel_futures=True)
            raise


def _begin() -> None:
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
