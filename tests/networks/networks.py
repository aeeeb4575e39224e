"""Every supernet that the contract suites run on, small: a new one adds an entry."""

from vaenas.networks import ImageSpace, NetworkConfig, space_class

SIZES = {"shufflenet": (0.125, 5), "nasnet": (4, 4), "nasbench101": (5, 2), "nasbench201": (4, 2), "macro": (0.125, 8)}


def make(name: str) -> ImageSpace:
    """A small network of a space."""
    return space_class(name)(NetworkConfig(16, 3, 10, *SIZES[name]))
