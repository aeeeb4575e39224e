"""What a search, a training or a drawing needs to know of a space with networks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Int64
from torch import Tensor

from vaenas.networks.cost import Cost
from vaenas.networks.supernet import Supernet
from vaenas.spaces.space import SearchSpace


@runtime_checkable
class Geometry(Protocol):
    """Everything about a network but the choice of operations."""

    @property
    def image_size(self) -> int: ...
    @property
    def image_channels(self) -> int: ...
    @property
    def classes(self) -> int: ...
    @property
    def width(self) -> float: ...
    @property
    def layers(self) -> int: ...


@dataclass(frozen=True)
class ImageSpace:
    """How a space becomes networks.

    Args:
        geometry: (image_size, image_channels, classes, width, layers) -> geometry; raises `UserError` "width ..." or
            "layers ..." where the space has no such network.
        space: geometry -> search space.
        network: (geometry, the operations that each slot holds or None for all) -> supernet or final network.
        cost: geometry -> multiply-adds and parameters of populations.
        drawing: (geometry, architecture (s,)) -> what `report.draw_architecture` draws.
        width, layers: of a search on two CPU cores, the defaults.
        widths: what `vaenas run` chooses among, the widest first.
        none: the operation that means "no edge".
        slots: geometry -> the slot of each of the network's layers, where layers share one; else None.
        full: geometry -> the part of the search space whose architectures lose nothing by pruning; None = nothing is
            pruned.
        additive: whether each operation is a layer with a cost of its own (`AdditiveCost`), whatever the others are;
            Algorithm 3's gates and tables of latency need that.
    """

    geometry: Callable[[int, int, int, float, int], Any]
    space: Callable[[Any], SearchSpace]
    network: Callable[[Any, Sequence[Sequence[int]] | None], Supernet]
    cost: Callable[[Any], Cost]
    drawing: Callable[[Any, Int64[Tensor, "s"]], dict[str, Any]]
    width: float
    layers: int
    widths: Sequence[float]
    none: int | None = None
    slots: Callable[[Any], Sequence[int] | None] = lambda geometry: None
    full: Callable[[Any], SearchSpace] | None = None
    additive: bool = True
