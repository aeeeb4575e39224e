"""A final network in one file: its weights, and in the file's metadata all that it takes to build and feed it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
from jaxtyping import Int64
from pydantic import ConfigDict, Field
from torch import Tensor

from vaenas.documents import from_json, short
from vaenas.errors import UserError
from vaenas.networks.cost import Costs
from vaenas.networks.image_space import ImageSpace, space_class, space_names
from vaenas.networks.supernet import NetworkConfig, Supernet
from vaenas.tensors import Format, check_whole, read_tensors, write_tensors

FORMAT = Format("vaenas weights 1", "weights", "take one as `vaenas train` or `vaenas export` wrote it, or train again")


@dataclass(frozen=True)
class NetworkInfo:
    """What weights need to become a network that answers; the number of classes is `len(classes)`."""

    __pydantic_config__ = ConfigDict(strict=True, allow_inf_nan=False)

    space: str  # its name
    code: Annotated[str, Field(max_length=5000)]  # the architecture, as the space writes it
    image_size: Annotated[int, Field(le=10_000)]
    image_channels: int
    width: float
    layers: Annotated[int, Field(ge=1, le=1000)]
    classes: Annotated[tuple[str, ...], Field(max_length=100_000)]  # names, in the order of the logits
    mean: tuple[float, ...]  # per channel, of pixels scaled to [0, 1]; images are normalised with them
    std: tuple[Annotated[float, Field(gt=0)], ...]

    def __post_init__(self) -> None:
        if self.space not in space_names():
            known = ", ".join(space_names())
            raise ValueError(f"space {short(self.space)}: choose {known}, or give your own's --space-file")
        given = len(self.mean), len(self.std)
        if given != (self.image_channels, self.image_channels):
            raise ValueError("mean and std of {} and {} channels, not {}".format(*given, self.image_channels))

    @property
    def image_space(self) -> ImageSpace:
        """The space, bound to this network's sizes; raises `UserError` where it has no such network."""
        sizes = self.image_size, self.image_channels, len(self.classes), self.width, self.layers
        return space_class(self.space)(NetworkConfig(*sizes))

    def architecture(self) -> Int64[Tensor, "s"]:
        """Raises `UserError` for a code of another space, or of no valid architecture."""
        space = self.image_space.space
        (row,) = space.decode([self.code])
        if not space.is_valid(row[None]).all():
            raise UserError(f"architecture {self.code}: not valid in space {self.space}, so it has no network")
        return row

    def costs(self) -> Costs:
        """Of the one architecture."""
        return self.image_space.cost(self.architecture()[None])

    def build(self) -> Supernet:
        """The final network, its weights as they are initialised; raises `UserError` for a code of another space."""
        return self.image_space.network(self.architecture())


def save_weights(path: Path, network: torch.nn.Module, info: NetworkInfo) -> None:
    """Writes `path` (safetensors) atomically."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    write_tensors(path, tensors, FORMAT, json.dumps(asdict(info)))


def load_weights(path: Path) -> tuple[Supernet, NetworkInfo]:
    """The final network in evaluation mode with its weights, and what it takes to feed it.

    Raises:
        UserError: the file is missing, damaged, or its weights are those of another network.
    """
    tensors, text = read_tensors(path, FORMAT)
    check_whole(path, FORMAT)
    try:
        info = from_json(NetworkInfo, text)
        if info.layers > max(100, len(tensors)):  # thousands take long to build
            raise ValueError(f"{info.layers} layers, but only {len(tensors)} tensors")
        architecture = info.architecture()
        with torch.device("meta"):  # which takes no memory, however wide it says that it is
            expected = info.image_space.network(architecture).state_dict()
    except (ValueError, UserError) as error:
        raise UserError(f"{path}: wrong metadata: {error}; {FORMAT.again}") from None
    kinds = [{name: f"{t.dtype} {list(t.shape)}" for name, t in part.items()} for part in (tensors, expected)]
    for name in sorted(expected.keys() | tensors.keys()):
        here, there = (of.get(name, "missing") for of in kinds)
        if here != there:
            raise UserError(
                f"{path}: the weights are not those of architecture {info.code}: {short(name)} is {here}, must be "
                f"{there}; {FORMAT.again}"
            )
        if not tensors[name].isfinite().all():
            raise UserError(f"{path}: {name} holds values that are no numbers; {FORMAT.again}")
    network = info.build()
    network.load_state_dict(tensors)
    return network.eval(), info
