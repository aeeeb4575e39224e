"""Hard limits on what may be ranked and returned (the † rows of Tables 1, 2)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Generator, Tensor

from vaenas.errors import UserError
from vaenas.networks.cost import AdditiveCost
from vaenas.spaces.space import LimitTooTight, Population, SearchSpace, draw_valid

UNITS = {"G": 1e9, "M": 1e6, "K": 1e3, "": 1}


def readable(count: int | float) -> str:
    """365000000 -> "365M", the way that limits are written."""
    for unit, size in UNITS.items():
        if count >= size:
            return f"{count / size:.4g}{unit}"
    return str(count)


@dataclass(frozen=True)
class Limits:
    """Upper bounds, each inclusive; None = no bound."""

    cost: AdditiveCost
    max_flops: int | None = None
    max_params: int | None = None

    def accept(self, population: Population) -> Bool[Tensor, "n"]:
        """Which architectures keep all the bounds."""
        costs = self.cost(population)
        good = torch.ones(len(population), dtype=torch.bool)
        for value, bound in zip(costs, (self.max_flops, self.max_params), strict=True):
            if bound is not None:
                good &= value <= bound
        return good

    def __str__(self) -> str:
        bounds = {"--max-flops": self.max_flops, "--max-params": self.max_params}
        return " and ".join(f"{name} {readable(bound)}" for name, bound in bounds.items() if bound is not None)

    def check(self, space: SearchSpace, propose: Callable[[int], Population], needed: int = 1) -> None:
        """Raises `UserError` if nothing of the space keeps the bounds, or too little to draw `needed` architectures."""
        names = (("--max-flops", "multiply-adds", self.max_flops), ("--max-params", "parameters", self.max_params))
        for which, (option, unit, bound) in enumerate(names):
            architecture, least = self.cost.cheapest(which)
            if bound is not None and least > bound:
                code = space.encode(architecture[None])[0]
                raise UserError(
                    f"{option} {readable(bound)}: nothing in space {space.name} is that small; the cheapest "
                    f"architecture, {code}, has {least:,} {unit}: raise {option} or lower --width"
                )
        try:
            draw_valid(propose, self.accept, needed, limits=str(self))
        except LimitTooTight as error:
            least = [self.cost.cheapest(which)[1] for which in (0, 1)]
            near = [torch.quantile(cost.float(), 0.001) for cost in self.cost(propose(20_000))]
            raise UserError(
                f"{error} (one in a thousand has at most {readable(float(near[0]))} multiply-adds, one in a thousand "
                f"at most {readable(float(near[1]))} parameters; the cheapest {least[0]:,} and {least[1]:,}), "
                f"or lower --width"
            ) from None


def uniform_proposals(space: SearchSpace, seed: int) -> Callable[[int], Population]:
    """Uniform draws from a generator of their own."""
    rng = Generator().manual_seed(seed)
    return lambda n: space.uniform(n, rng)
