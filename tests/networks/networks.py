"""Every supernet that the contract suite runs on: a new one adds an entry."""

from collections.abc import Callable
from typing import NamedTuple

from vaenas.networks.cost import AdditiveCost, additive_cost
from vaenas.networks.nasnet import NASNet, nasnet_cost
from vaenas.networks.shufflenet import ShuffleNet
from vaenas.networks.supernet import Supernet
from vaenas.spaces.nasnet import NASNetGeometry, nasnet_space
from vaenas.spaces.shufflenet import ShuffleNetGeometry, shufflenet_space
from vaenas.spaces.space import SearchSpace


class Case(NamedTuple):
    """A small network of a space, with what it costs and the slot of each of its choice layers."""

    space: SearchSpace
    build: Callable[[list[list[int]] | None], Supernet]  # None: the supernet
    cost: AdditiveCost
    layer_slots: list[int]


SHUFFLE = ShuffleNetGeometry(16, 3, 10, width=0.125, layers=5)
NASNET = NASNetGeometry(16, 3, 10, width=4, layers=4)

NETWORKS = {
    "shufflenet": Case(
        shufflenet_space(5),
        lambda allowed: ShuffleNet(SHUFFLE, allowed),
        additive_cost(lambda: ShuffleNet(SHUFFLE)),
        list(range(5)),
    ),
    "nasnet": Case(nasnet_space(), lambda allowed: NASNet(NASNET, allowed), nasnet_cost(NASNET), NASNET.layer_slots),
}
