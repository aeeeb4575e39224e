"""What every geometry checks alike."""

from vaenas.errors import UserError

WIDEST = 1024  # times or channels
SMALLEST = 16  # pixels: no network here halves the image more often than four times before its last layers


def check_images(space: str, image_size: int, image_channels: int, classes: int) -> None:
    """Raises `UserError` for images or classes that no network of the space takes."""
    if image_size < SMALLEST:
        raise UserError(f"image size {image_size}: space {space} takes images of {SMALLEST} pixels or more")
    if image_channels not in (1, 3):
        raise UserError(f"image channels {image_channels}: must be 1 or 3")
    if classes < 2:
        raise UserError(f"classes {classes}: must be 2 or more")


def check_width(space: str, width: float, least: float, paper: str) -> None:
    """Raises `UserError` for a multiplier of channels that is out of the space's range; `paper` names the usual one."""
    if not least <= width <= WIDEST:  # nor is NaN in it
        raise UserError(f"width {width:g}: space {space} takes >= {least:g} and <= {WIDEST} ({paper})")


def check_channels(space: str, width: float, paper: str, multiple: int = 1, least: int = 1) -> None:
    """Raises `UserError` for a width that is no number of channels of the space; `paper` names the usual ones."""
    if not least <= width <= WIDEST or width != int(width) or width % multiple:
        numbers = {1: "numbers", 2: "even numbers"}.get(multiple, f"multiples of {multiple}")
        raise UserError(
            f"width {width:g}: space {space} takes {numbers} of channels >= {least} and <= {WIDEST} ({paper})"
        )


def check_fixed(space: str, layers: int, fixed: int) -> None:
    """Raises `UserError` unless a space has the one number of layers that it has."""
    if layers != fixed:
        raise UserError(f"layers {layers}: space {space} has {fixed}; leave it out")
