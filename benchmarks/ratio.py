"""One way to measure a ratio: both sides in turn, many times, in one process; the last line is JSON."""

import json
import platform
import statistics
import time
from collections.abc import Callable

import torch


def ratio(
    name: str,
    ours: Callable[[], object],
    reference: Callable[[], object],
    reference_name: str,
    runs: int,
    prepare: Callable[[], object] = lambda: None,
    spread: float = 0.0,
    more: Callable[[float], dict[str, float]] = lambda seconds: {},
) -> None:
    """Prints the median over `runs` of time(ours) / time(reference), each pair measured back to back.

    `prepare` is called before each pair and not timed; `spread` is added to ours each time: seconds of what it does
    only now and then, divided by how often. `more` makes further figures from ours' median seconds.
    """
    pairs = []
    for run in range(-3, runs):  # the first three warm up
        prepare()
        # The order alternates, so that neither side always finds the caches warm.
        sides = (ours, reference) if run % 2 else (reference, ours)
        times = {side: seconds(side) for side in sides}
        if run >= 0:
            pairs.append((times[ours] + spread, times[reference]))
    ratios = sorted(a / b for a, b in pairs)
    median = statistics.median(a for a, _ in pairs)
    result = {
        "benchmark": name,
        "ratio": round(statistics.median(ratios), 4),
        "quartiles": [round(ratios[len(ratios) // 4], 4), round(ratios[3 * len(ratios) // 4], 4)],
        "reference": reference_name,
        "runs": runs,
        "seconds": round(median, 6),
        "reference_seconds": round(statistics.median(b for _, b in pairs), 6),
        **more(median),
        "threads": torch.get_num_threads(),
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
    }
    print(json.dumps(result))


def seconds(side: Callable[[], object]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    side()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start
