"""Architectures drawn ahead."""

from collections.abc import Callable

import torch
from jaxtyping import Int64
from torch import Generator, Tensor

from vaenas.spaces.space import Population

BLOCK = 256  # steps at most


class Prefetched:
    """Gives each step of a search its architecture, drawn a block of steps at once: one by one is as slow as a layer.

    Args:
        draw: one architecture for each of some steps, (n, s).
        interval: steps after which `draw` has learned, where a block ends.
        steps: of the whole search.
    """

    def __init__(self, draw: Callable[[range, Generator], Population], slots: int, interval: int, steps: int) -> None:
        self._draw, self._interval, self._steps = draw, interval, steps
        self.rows: Population = torch.empty(0, slots, dtype=torch.int64)  # of the next steps: to be saved

    def at(self, step: int, rng: Generator) -> Int64[Tensor, "s"]:
        """The architecture of `step`; to be called once for each step in turn."""
        if len(self.rows) == 0:
            end = min(step - step % self._interval + self._interval, step + BLOCK, self._steps)
            self.rows = self._draw(range(step, end), rng)
        architecture, self.rows = self.rows[0], self.rows[1:]
        return architecture
