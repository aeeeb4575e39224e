"""Every supernet that the contract suites run on, small: a new one adds an entry."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from vaenas.networks.image_spaces import IMAGE_SPACES

from vaenas.networks.cost import Cost
from vaenas.networks.image_space import ImageSpace
from vaenas.networks.supernet import Supernet
from vaenas.spaces.space import SearchSpace

SIZES = {"shufflenet": (0.125, 5), "nasnet": (4, 4), "nasbench101": (5, 2), "nasbench201": (4, 2), "macro": (0.125, 8)}


class Case(NamedTuple):
    """A small network of a space."""

    name: str
    image_space: ImageSpace
    geometry: Any
    space: SearchSpace
    cost: Cost

    def build(self, allowed: Sequence[Sequence[int]] | None) -> Supernet:
        """None: the supernet."""
        return self.image_space.network(self.geometry, allowed)

    @property
    def layer_slots(self) -> Sequence[int]:
        """The slot of each choice block."""
        return self.image_space.slots(self.geometry) or range(self.space.slots)


def make(name: str) -> Case:
    image_space = IMAGE_SPACES[name]
    geometry = image_space.geometry(16, 3, 10, *SIZES[name])
    return Case(name, image_space, geometry, image_space.space(geometry), image_space.cost(geometry))
