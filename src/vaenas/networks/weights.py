"""A final network in one file: its weights, and in the file's metadata all that it takes to build and feed it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from vaenas.errors import UserError
from vaenas.files import write_atomically
from vaenas.networks.image_spaces import IMAGE_SPACES
from vaenas.networks.supernet import Supernet


@dataclass(frozen=True)
class NetworkInfo:
    """What weights need to become a network that answers.

    Args:
        space: a name of `IMAGE_SPACES`.
        code: the architecture, as the space writes it.
        image_size, image_channels, width, layers: of the geometry; the number of classes is `len(classes)`.
        classes: names, in the order of the logits.
        mean, std: per channel, of pixels scaled to [0, 1]; images are normalised with them.
    """

    space: str
    code: str
    image_size: int
    image_channels: int
    width: float
    layers: int
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def geometry(self) -> Any:
        """The space's geometry; raises `UserError` where the space has no such network."""
        return IMAGE_SPACES[self.space].geometry(
            self.image_size, self.image_channels, len(self.classes), self.width, self.layers
        )

    def build(self) -> Supernet:
        """The final network, its weights as they are initialised; raises `UserError` for a code of another space."""
        space = IMAGE_SPACES[self.space]
        (architecture,) = space.space(self.geometry).decode([self.code])
        return space.network(self.geometry, [[operation] for operation in architecture.tolist()])


def save_weights(path: Path, network: torch.nn.Module, info: NetworkInfo) -> None:
    """Writes `path` (safetensors) atomically."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    metadata = {name: json.dumps(value) for name, value in asdict(info).items()}
    write_atomically(path, save(tensors, {**metadata, "format": "pt"}))


def read_info(path: Path) -> NetworkInfo:
    """What stands in the file's metadata; raises `UserError` if it is no such file."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        values: dict[str, Any] = {name: json.loads(metadata[name]) for name in NetworkInfo.__dataclass_fields__}
        lists: dict[str, Any] = {name: tuple(values[name]) for name in ("classes", "mean", "std")}
        return NetworkInfo(**{**values, **lists})
    except FileNotFoundError:
        raise UserError(f"no weights at {path}") from None
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path}: not a file of weights that vaenas wrote ({error})") from None


def load_weights(path: Path) -> tuple[Supernet, NetworkInfo]:
    """The final network in evaluation mode with its weights, and what it takes to feed it.

    Raises:
        UserError: the file is missing, damaged, or its weights are those of another network.
    """
    info = read_info(path)
    network = info.build()
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        if len(reason) > 200:  # it lists all tensors
            reason = f"{reason[:200]} ..."
        raise UserError(
            f"{path}: the weights are not those of architecture {info.code}: {reason}; take the file as it was written"
        ) from None
    return network.eval(), info
