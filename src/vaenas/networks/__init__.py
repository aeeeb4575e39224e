"""Spaces with their networks. `register_space` makes one of your own known (docs/howto/own-space.md)."""

from vaenas.networks.image_space import ImageSpace, register_space, space_class, space_names
from vaenas.networks.macro import MacroImageSpace
from vaenas.networks.nasbench101 import NASBench101ImageSpace
from vaenas.networks.nasbench201 import NASBench201ImageSpace
from vaenas.networks.nasnet import NASNetImageSpace
from vaenas.networks.shufflenet import ShuffleNetImageSpace
from vaenas.networks.supernet import ChoiceBlock, NetworkConfig, Supernet

for _space in (
    ShuffleNetImageSpace, NASNetImageSpace, NASBench101ImageSpace, NASBench201ImageSpace, MacroImageSpace,
):  # fmt: skip
    register_space(_space)

__all__ = ["ChoiceBlock", "ImageSpace", "NetworkConfig", "Supernet", "register_space", "space_class", "space_names"]
