"""Latency of whole populations: every operation timed once on this device, added up (as in ProxylessNAS and FBNet)."""

import hashlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Int64
from pydantic import ConfigDict, Field, FiniteFloat
from scipy.optimize import lsq_linear
from torch import Generator, Tensor

from vaenas.documents import from_json
from vaenas.files import write_atomically, writing
from vaenas.machine import describe_device
from vaenas.networks.cost import ABSENT, AdditiveCost, sums, tabulate
from vaenas.networks.image_space import ImageSpace

ROUNDS = 3  # how often everything is timed; the fastest counts, since what else the machine does only slows it down
CALLS = 5  # of each timing, whose median counts
GOOD = 0.1  # median relative error; a worse table is measured again
FITTED, TESTED = 6, 12  # networks timed whole: to fit the sum to, and to say its error by


Nanoseconds = Annotated[int, Field(ge=0, le=ABSENT)]


@dataclass(frozen=True)
class LatencyTable:
    """Nanoseconds of one image's forward pass: a constant plus one entry per slot and operation."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    table: list[list[Nanoseconds]]
    constant: Nanoseconds
    error: Annotated[FiniteFloat, Field(ge=0)]  # median, relative, on random networks timed whole and not fitted
    device: str  # where it was measured, in words

    def added_to(self, cost: AdditiveCost) -> AdditiveCost:
        """The same costs with latency."""
        tables = {**cost.tables, "latency": torch.tensor(self.table)}
        return replace(cost, tables=tables, constants={**cost.constants, "latency": self.constant})

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, content: bytes, space: ImageSpace) -> "LatencyTable":
        """Raises ValueError for what is no table of this space's networks."""
        saved, slots, operations = from_json(cls, content), space.space.slots, space.space.max_choices
        if [len(row) for row in saved.table] != [operations] * slots:
            raise ValueError(f"not {slots} slots of {operations} operations")
        return saved


def latency_table(space: ImageSpace, device: torch.device, cache: Path) -> LatencyTable:
    """The table of a space's networks on this device, measured once and kept in `cache`.

    Raises:
        UserError: the cache cannot be written.
    """
    key = [space.name, *map(str, astuple(space.config)), describe_device(device)]
    file = cache / "latency" / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]}.json"
    with suppress(OSError, ValueError):  # none yet, or damaged: measured again
        return LatencyTable.from_json(file.read_bytes(), space)
    with writing(file, "make room or set VAENAS_CACHE to another folder"):
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=file.parent) as probe:  # before many seconds of timing, not after
            probe.write(bytes(4096))
    found = measure(space, device)
    write_atomically(file, found.to_json())
    return found


def measure(space: ImageSpace, device: torch.device) -> LatencyTable:
    """The table as it is measured now; again, up to three times, while other work on the machine spoils it."""
    found = [_measure_once(space, device)]
    while found[-1].error > GOOD and len(found) < 3:
        found.append(_measure_once(space, device))
    return min(found, key=lambda table: table.error)


@torch.inference_mode()
def _measure_once(space: ImageSpace, device: torch.device) -> LatencyTable:
    """Times each different operation at its place, then fits scale and constant to networks timed whole."""
    supernet = space.supernet().eval().to(device)
    image = torch.randn(1, *supernet.input_shape, device=device)

    def operations() -> Int64[Tensor, "s k"]:
        (table,), _ = tabulate(supernet, image, lambda module, x: [_nanoseconds(partial(module, x))], 1)
        if space.none is not None:
            table[:, space.none] = 0  # never computed
        return table

    tables, search_space, rng = [operations()], space.space, Generator().manual_seed(0)
    random = search_space.uniform(200, rng)
    order = sums(tables[0], random).argsort()
    # the fastest and slowest of many tell the scale, random ones the middle
    fitted = torch.cat([random[order[:2]], random[order[-2:]], search_space.uniform(FITTED - 4, rng)])
    tested = search_space.uniform(TESTED, rng)
    networks = [space.network(architecture).eval().to(device) for architecture in torch.cat([fitted, tested])]
    rounds = []
    for _ in range(ROUNDS):  # both in turn, so that a slow spell of the machine is one of both
        rounds.append([_nanoseconds(partial(network, image)) for network in networks])
        tables.append(operations())
    table, whole = torch.stack(tables).amin(0), np.min(rounds, axis=0)
    # scale and constant, neither negative, with the least squared relative error
    terms = np.stack([sums(table, fitted).double().numpy(), np.ones(FITTED)], 1) / whole[:FITTED, None]
    scale, constant = lsq_linear(terms, np.ones(FITTED), (0, np.inf), method="bvls").x
    table = torch.where(table < ABSENT, (table.double() * scale).round().long(), table)
    predicted = sums(table, tested).numpy() + round(constant)
    error = statistics.median(abs(predicted - whole[FITTED:]) / whole[FITTED:])
    return LatencyTable(table.tolist(), round(constant), float(error), describe_device(device))


def timed(call: Callable[[], object], runs: int, warmup: int = 5) -> list[float]:
    """Milliseconds of each of `runs` calls, the device's work included, after `warmup` calls that do not count."""
    times = []
    for i in range(-warmup, runs):
        start = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if i >= 0:
            times.append(1000 * (time.perf_counter() - start))
    return times


def _nanoseconds(call: Callable[[], object]) -> int:
    return round(1e6 * statistics.median(timed(call, CALLS, warmup=2)))
