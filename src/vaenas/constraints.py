"""Hard constraints on what may be ranked and returned (the † rows of Tables 1, 2)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool
from torch import Generator, Tensor

from vaenas.errors import UserError
from vaenas.networks.cost import Cost
from vaenas.ranges import readable
from vaenas.spaces.space import PROPOSALS, ConstraintTooTight, Population, SearchSpace, draw_valid

# What can be bounded, by its name in `Costs`: option, unit, and how a number of it is written.
BOUNDS: dict[str, tuple[str, str, Callable[[int | float], str]]] = {
    "multiply_adds": ("--max-flops", "multiply-adds", readable),
    "params": ("--max-params", "parameters", readable),
    "latency": ("--max-latency", "latency", lambda nanoseconds: f"{nanoseconds / 1e6:.4g}ms"),
}


@dataclass(frozen=True)
class Constraints:
    """Upper bounds, each inclusive; None = no bound."""

    cost: Cost
    max_flops: int | None = None
    max_params: int | None = None
    max_latency: int | None = None  # nanoseconds; needs a cost that knows them

    @property
    def bounds(self) -> dict[str, int]:
        """Those that there are, by the cost's name."""
        bounds = zip(BOUNDS, (self.max_flops, self.max_params, self.max_latency), strict=True)
        return {name: bound for name, bound in bounds if bound is not None}

    def is_feasible(self, population: Population) -> Bool[Tensor, "n"]:
        """Which architectures keep all of them."""
        good, costs = torch.ones(len(population), dtype=torch.bool), self.cost(population) if self.bounds else None
        for name, bound in self.bounds.items():
            good &= getattr(costs, name) <= bound
        return good

    def __str__(self) -> str:
        return " and ".join(f"{BOUNDS[name][0]} {BOUNDS[name][2](bound)}" for name, bound in self.bounds.items())

    def check(self, space: SearchSpace, seed: int = 0, needed: int = 1) -> None:
        """Raises `UserError` if nothing keeps the bounds, or too little to draw `needed` architectures uniformly."""
        least = {name: self.cost.cheapest(name) for name in self.bounds}
        for name, bound in self.bounds.items():
            (architecture, number), (option, unit, text) = least[name], BOUNDS[name]
            if number > bound:
                raise UserError(
                    f"{option} {text(bound)}: nothing in space {space.name} is that small; the cheapest architecture, "
                    f"{space.encode(architecture[None])[0]}, has "
                    f"{text(number) if name == 'latency' else f'{number:,}'} {unit}: raise {option} or lower --width"
                )
        propose = partial(space.uniform, rng=Generator().manual_seed(seed))
        try:
            # Half of what a search tries later: whoever passes here by chance does not fail there.
            draw_valid(propose, self.is_feasible, needed, str(self), PROPOSALS * max(needed, 64) // 2)
        except ConstraintTooTight as error:
            costs, near = self.cost(propose(20_000)), []
            for name in self.bounds:
                _, unit, text = BOUNDS[name]
                rare = float(getattr(costs, name).float().quantile(0.001))
                near.append(f"one in a thousand has at most {text(rare)} {unit}, the cheapest {text(least[name][1])}")
            raise UserError(f"{error} ({', '.join(near)}), or lower --width") from None
