"""The image spaces by name: what a search, a training or a drawing needs to know of one. A new space adds an entry."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Int64
from torch import Tensor

from vaenas.errors import UserError
from vaenas.networks.cost import AdditiveCost, additive_cost
from vaenas.networks.nasnet import NASNet, nasnet_cost
from vaenas.networks.shufflenet import ShuffleNet
from vaenas.networks.supernet import Supernet
from vaenas.spaces import nasnet, shufflenet
from vaenas.spaces.nasnet import NASNetGeometry, nasnet_space
from vaenas.spaces.shufflenet import ShuffleNetGeometry, shufflenet_space
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
        none: the operation that means "no edge"; a space with one has rules of validity.
        slots: geometry -> the slot of each of the network's layers, where layers share one; else None.
    """

    geometry: Callable[[int, int, int, float, int], Any]
    space: Callable[[Any], SearchSpace]
    network: Callable[[Any, Sequence[Sequence[int]] | None], Supernet]
    cost: Callable[[Any], AdditiveCost]
    drawing: Callable[[Any, Int64[Tensor, "s"]], dict[str, Any]]
    width: float
    layers: int
    none: int | None = None
    slots: Callable[[Any], Sequence[int] | None] = lambda geometry: None


def _nasnet_geometry(image_size: int, image_channels: int, classes: int, width: float, layers: int) -> NASNetGeometry:
    if width != int(width):
        raise UserError(f"width {width}: space nasnet takes even numbers of channels >= 2 (36 and 48 = paper)")
    return NASNetGeometry(image_size, image_channels, classes, int(width), layers)


IMAGE_SPACES = {
    "shufflenet": ImageSpace(
        geometry=ShuffleNetGeometry,
        space=lambda geometry: shufflenet_space(geometry.layers),
        network=ShuffleNet,
        cost=lambda geometry: additive_cost(lambda: ShuffleNet(geometry)),
        drawing=shufflenet.drawing,
        width=0.25,
        layers=10,
    ),
    "nasnet": ImageSpace(
        geometry=_nasnet_geometry,
        space=lambda geometry: nasnet_space(),
        network=NASNet,
        cost=nasnet_cost,
        drawing=nasnet.drawing,
        width=8,
        layers=5,
        none=nasnet.NONE,
        slots=lambda geometry: geometry.layer_slots,
    ),
}
