"""Everything about a network but the choice of operations, and what the spaces check of it alike."""

from dataclasses import dataclass, replace

from vaenas.errors import UserError

WIDEST = 1024  # times or channels
SMALLEST = 16  # pixels: no network here halves the image more often than four times before its last layers
LARGE = 96  # pixels


@dataclass(frozen=True)
class NetworkConfig:
    """What a space builds its networks for.

    Args:
        image_size: side of the square input in pixels, >= 16.
        image_channels: 1 or 3.
        classes: number of classes, >= 2.
        width: multiplies all channels, or is a number of channels: the space says which.
        layers: choice blocks, or cells, or cells in a stage: the space says which.
    """

    image_size: int
    image_channels: int
    classes: int
    width: float
    layers: int

    @property
    def large_images(self) -> bool:
        """Whether stems halve the image as at 224 pixels (ImageNet); smaller images keep their pixels."""
        return self.image_size >= LARGE


def check_images(space: str, config: NetworkConfig) -> None:
    """Raises `UserError` for images or classes that no network takes."""
    if config.image_size < SMALLEST:
        raise UserError(f"image size {config.image_size}: space {space} takes images of {SMALLEST} pixels or more")
    if config.image_channels not in (1, 3):
        raise UserError(f"image channels {config.image_channels}: must be 1 or 3")
    if config.classes < 2:
        raise UserError(f"classes {config.classes}: must be 2 or more")


def check_width(space: str, width: float, least: float, usual: str) -> None:
    """Raises `UserError` for a multiplier of channels that is out of the space's range; `usual` names the paper's."""
    if not least <= width <= WIDEST:  # nor is NaN in it
        raise UserError(f"width {width:g}: space {space} takes >= {least:g} and <= {WIDEST} ({usual})")


def with_channels(space: str, config: NetworkConfig, usual: str, multiple: int = 1, least: int = 1) -> NetworkConfig:
    """The same with a whole number as width; raises `UserError` for what is no number of channels of the space."""
    width = config.width
    if not least <= width <= WIDEST or width != int(width) or width % multiple:
        numbers = {1: "numbers", 2: "even numbers"}.get(multiple, f"multiples of {multiple}")
        raise UserError(
            f"width {width:g}: space {space} takes {numbers} of channels >= {least} and <= {WIDEST} ({usual})"
        )
    return replace(config, width=int(width))
