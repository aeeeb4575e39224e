"""Hard limits on what may be ranked and returned (the † rows of Tables 1, 2)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Generator, Tensor

from vaenas.errors import UserError
from vaenas.networks.cost import Cost
from vaenas.ranges import readable
from vaenas.spaces.space import ConstraintTooTight, Population, SearchSpace, draw_valid, proposals_for

# What can be bounded, in the order of a cost's rows: option, unit, and how a number of it is written.
BOUNDS: tuple[tuple[str, str, Callable[[int | float], str]], ...] = (
    ("--max-flops", "multiply-adds", readable),
    ("--max-params", "parameters", readable),
    ("--max-latency", "latency", lambda nanoseconds: f"{nanoseconds / 1e6:.4g}ms"),
)


@dataclass(frozen=True)
class Constraints:
    """Upper bounds, each inclusive; None = no bound."""

    cost: Cost
    max_flops: int | None = None
    max_params: int | None = None
    max_latency: int | None = None  # nanoseconds; needs a cost that knows them

    @property
    def bounds(self) -> tuple[int | None, ...]:
        return self.max_flops, self.max_params, self.max_latency

    def is_feasible(self, population: Population) -> Bool[Tensor, "n"]:
        """Which architectures keep all of them."""
        good = torch.ones(len(population), dtype=torch.bool)
        for values, bound in zip(self.cost.totals(population), self.bounds, strict=False):
            if bound is not None:
                good &= values <= bound
        return good

    def __str__(self) -> str:
        bounds = zip(BOUNDS, self.bounds, strict=True)
        return " and ".join(f"{option} {text(bound)}" for (option, _, text), bound in bounds if bound is not None)

    def check(self, space: SearchSpace, propose: Callable[[int], Population], needed: int = 1) -> None:
        """Raises `UserError` if nothing of the space keeps the bounds, or too little to draw `needed` architectures."""
        for which, ((option, unit, text), bound) in enumerate(zip(BOUNDS, self.bounds, strict=True)):
            if bound is None:
                continue
            architecture, least = self.cost.cheapest(which)
            if least > bound:
                code = space.encode(architecture[None])[0]
                number = text(least) if unit == "latency" else f"{least:,}"
                raise UserError(
                    f"{option} {text(bound)}: nothing in space {space.name} is that small; the "
                    f"cheapest architecture, {code}, has {number} {unit}: raise {option} or lower --width"
                )
        try:
            # Half of what a search tries later: whoever passes here by chance does not fail there.
            draw_valid(
                propose, self.is_feasible, needed, constraints=str(self), max_proposals=proposals_for(needed) // 2
            )
        except ConstraintTooTight as error:
            near = self.cost.totals(propose(20_000)).float().quantile(0.001, dim=1)
            rare = ", ".join(
                f"one in a thousand has at most {text(float(near[i]))} {unit}, the cheapest "
                f"{text(self.cost.cheapest(i)[1])}"
                for i, (_, unit, text) in enumerate(BOUNDS)
                if self.bounds[i] is not None
            )
            raise UserError(f"{error} ({rare}), or lower --width") from None


def uniform_proposals(space: SearchSpace, seed: int) -> Callable[[int], Population]:
    """Uniform draws from a generator of their own."""
    rng = Generator().manual_seed(seed)
    return lambda n: space.uniform(n, rng)
