"""A search space bound to one network configuration, and the spaces that are known by name."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Int64
from torch import Tensor

from vaenas.errors import UserError
from vaenas.networks.cost import Cost, additive_cost
from vaenas.networks.drawing import Drawing, draw_chain
from vaenas.networks.supernet import NetworkConfig, Supernet
from vaenas.spaces.space import SearchSpace

WIDEST = 1024  # times or channels
SMALLEST = 16  # pixels: no network here halves the image more often than four times before its last layers


class ImageSpace:
    """A search space and the networks of its architectures, for images of one size and one number of classes.

    A space of your own says its `name`, `network_class`, `default_width`, `default_layers` and `space`, and the other
    facts where they are not as here; `register_space` makes it known.

    Args:
        config: raises `UserError` "width ...", "layers ..." or "image ..." where the space has no such network.
    """

    name: ClassVar[str]
    network_class: ClassVar[Callable[..., Supernet]]  # takes (config, the operations that each slot holds: all, or one)
    default_width: ClassVar[float]  # of a search on two CPU cores, as `default_layers`
    default_layers: ClassVar[int]
    space: SearchSpace  # what is searched: the class's where it is always the same, else set after `__init__`
    width_rule: ClassVar[tuple[float, int, str]] = 0.0, 0, ""
    """The least width; what a number of channels must be a multiple of, 0 = the width multiplies them; whose is what.
    An empty text = any width will do."""
    widths: ClassVar[Sequence[float]] = ()  # what `vaenas run` chooses among, the widest first; none = the default
    title: ClassVar[str] = ""  # of the drawing of a chain; none = the name
    operation_names: ClassVar[Sequence[str]] = ()
    """For that drawing, in the order of the slots' symbols, each once; none = the symbols are the names."""
    none: ClassVar[int | None] = None  # the operation that means "no edge"
    additive: ClassVar[bool] = True
    """Whether each operation costs the same whatever the others are. Gates and tables of latency need that."""
    has_dropout: ClassVar[bool] = False  # before the classifier
    has_auxiliary: ClassVar[bool] = False  # whether the class takes `auxiliary` (see `NASNet`) and has drop path

    def __init__(self, config: NetworkConfig) -> None:
        self.config = self.checked(config)

    @classmethod
    def checked(cls, config: NetworkConfig) -> NetworkConfig:
        """The configuration as the network takes it; raises `UserError` where the space has no such network."""
        width, (least, multiple, usual) = config.width, cls.width_rule
        if usual and (not least <= width <= WIDEST or (multiple and width % multiple)):  # nor is NaN in it
            kind = ("", "numbers of channels ", "even numbers of channels ")[multiple]
            raise UserError(f"width {width:g}: space {cls.name} takes {kind}>= {least:g} and <= {WIDEST} ({usual})")
        if config.image_size < SMALLEST:
            raise UserError(
                f"image size {config.image_size}: space {cls.name} takes images of {SMALLEST} pixels or more"
            )
        if config.image_channels not in (1, 3):
            raise UserError(f"image channels {config.image_channels}: must be 1 or 3")
        if config.classes < 2:
            raise UserError(f"classes {config.classes}: must be 2 or more")
        return replace(config, width=int(width)) if multiple else config

    @classmethod
    def layers_of(cls, code: str) -> int | None:
        """How many layers an architecture's code tells; None where it doesn't."""
        return None

    def supernet(self) -> Supernet:
        """A network that holds all operations, its weights as they are initialised."""
        return self.network_class(self.config, [range(n) for n in self.space.choices])

    def network(self, architecture: Int64[Tensor, "s"], **options: Any) -> Supernet:
        """The final network of one architecture; `options` are the network class's own, such as `auxiliary`."""
        return self.network_class(self.config, [[operation] for operation in architecture.tolist()], **options)

    @cached_property
    def cost(self) -> Cost:
        """Multiply-adds and parameters of populations."""
        return additive_cost(self.supernet)

    def drawing(self, architecture: Int64[Tensor, "s"]) -> Drawing:
        """What `report.draw_architecture` draws; here a chain of layers."""
        with torch.device("meta"):
            network = self.network(architecture).eval()
        return draw_chain(self.title or self.name, network, self.space, self.operation_names, architecture)


S = TypeVar("S", bound=type[ImageSpace])
_SPACES: dict[str, type[ImageSpace]] = {}


def register_space(space: S) -> S:
    """Makes a space known by its name: to searches, trainings, the command line, files of weights. Also a decorator.

    Raises:
        UserError: it lacks a fact, or has the name of one of vaenas's own spaces.
    """
    for fact in ("name", "network_class", "default_width", "default_layers"):
        if not hasattr(space, fact):
            raise UserError(f"space {space.__name__}: {fact} is missing: give the class this attribute")
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,39}", space.name):
        raise UserError(f"space {space.name!r}: a name is of at most 40 letters a-z, digits, - and _, a letter first")
    taken = _SPACES.get(space.name)
    if taken is not None and taken.__module__.startswith("vaenas."):
        raise UserError(f"space {space.name}: vaenas has one of this name; choose another")
    _SPACES[space.name] = space
    return space


def space_names() -> tuple[str, ...]:
    """The spaces that are known, vaenas's own first."""
    return tuple(_SPACES)


def space_class(name: str) -> type[ImageSpace]:
    """The space of this name; raises `UserError` where there is none."""
    if name not in _SPACES:
        raise UserError(f"--space {name}: there is no such space; choose {', '.join(_SPACES)}")
    return _SPACES[name]
