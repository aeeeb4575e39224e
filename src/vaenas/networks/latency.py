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
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Int64
from pydantic import BaseModel, Field, FiniteFloat
from torch import Generator, Tensor

from vaenas.documents import from_json
from vaenas.files import write_atomically, writing
from vaenas.machine import describe_device
from vaenas.networks.cost import ABSENT, AdditiveCost, place
from vaenas.networks.image_space import ImageSpace
from vaenas.spaces.space import Population

ROUNDS = 3  # how often everything is timed; the fastest counts, since what else the machine does only slows it down
CALLS = 5  # of each timing, whose median counts
GOOD = 0.1  # median relative error; a worse table is measured again
FITTED, TESTED = 6, 12  # networks timed whole: to fit the sum to, and to say its error by


Nanoseconds = Annotated[int, Field(ge=0, le=ABSENT)]


class _Saved(BaseModel, extra="forbid"):
    """What a file holds of a table."""

    table: list[list[Nanoseconds]]
    constant: Nanoseconds
    error: Annotated[FiniteFloat, Field(ge=0)]
    device: str


@dataclass(frozen=True)
class LatencyTable:
    """Nanoseconds of one image's forward pass: a constant plus one entry per slot and operation."""

    table: Int64[Tensor, "s k"]
    constant: int
    error: float  # median relative error on random networks that were timed whole and not fitted
    device: str  # where it was measured, in words

    def added_to(self, cost: AdditiveCost) -> AdditiveCost:
        """The same costs with latency."""
        tables, constants = {**cost.tables, "latency": self.table}, {**cost.constants, "latency": self.constant}
        return replace(cost, tables=tables, constants=constants)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "table": self.table.tolist()}

    @classmethod
    def from_json(cls, content: bytes, space: ImageSpace) -> "LatencyTable":
        """Raises ValueError for what is no table of this space's networks."""
        saved, slots, operations = from_json(_Saved, content), space.space.slots, space.space.max_choices
        if [len(row) for row in saved.table] != [operations] * slots:
            raise ValueError(f"not {slots} slots of {operations} operations")
        return cls(torch.tensor(saved.table), saved.constant, saved.error, saved.device)


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
    write_atomically(file, json.dumps(found.to_json()).encode())
    return found


def measure(space: ImageSpace, device: torch.device) -> LatencyTable:
    """The table as it is measured now; again, up to three times, while other work on the machine spoils it."""
    found = _measure_once(space, device)
    for _ in range(2):
        if found.error > GOOD:
            found = min(found, _measure_once(space, device), key=lambda table: table.error)
    return found


@torch.inference_mode()
def _measure_once(space: ImageSpace, device: torch.device) -> LatencyTable:
    """Times each different operation at its place, then fits scale and constant to networks timed whole."""
    supernet = space.supernet().eval().to(device)
    image = torch.randn(1, *supernet.input_shape, device=device)
    placed = place(supernet, image)

    def operations() -> Int64[Tensor, "s k"]:
        table = placed.table(lambda module, x: [_nanoseconds(partial(module, x))], 1)[0]
        if space.none is not None:
            table[:, space.none] = 0  # never computed
        return table

    tables, search_space, rng = [operations()], space.space, Generator().manual_seed(0)
    random = search_space.uniform(200, rng)
    order = _sums(tables[0], random).argsort()
    # the fastest and slowest of many tell the scale, random ones the middle
    fitted = torch.cat([random[order[:2]], random[order[-2:]], search_space.uniform(FITTED - 4, rng)])
    tested = search_space.uniform(TESTED, rng)
    networks = [space.network(architecture).eval().to(device) for architecture in torch.cat([fitted, tested])]
    rounds = []
    for _ in range(ROUNDS):  # both in turn, so that a slow spell of the machine is one of both
        rounds.append([_nanoseconds(partial(network, image)) for network in networks])
        tables.append(operations())
    table, whole = torch.stack(tables).amin(0), np.min(rounds, axis=0)
    scale, constant = _fit(_sums(table, fitted).double().numpy(), whole[:FITTED])
    table = torch.where(table < ABSENT, (table.double() * scale).round().long(), table)
    predicted = _sums(table, tested).numpy() + constant
    error = statistics.median(abs(predicted - whole[FITTED:]) / whole[FITTED:])
    return LatencyTable(table, constant, float(error), describe_device(device))


def _sums(table: Int64[Tensor, "s k"], population: Population) -> Int64[Tensor, "n"]:
    return table[torch.arange(population.shape[1]), population].sum(-1)


def _fit(sums: np.ndarray, whole: np.ndarray) -> tuple[float, int]:
    """Scale and constant, neither negative, with the least squared relative error."""
    scale, constant = np.linalg.lstsq(np.stack([sums, np.ones_like(sums)], 1) / whole[:, None], np.ones_like(whole))[0]
    if scale <= 0 or constant < 0:  # noise: then by one of them alone
        return float((sums / whole).sum() / ((sums / whole) ** 2).sum()), 0
    return float(scale), round(constant)


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
