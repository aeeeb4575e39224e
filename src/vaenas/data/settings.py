"""Which images, by the settings that a search and a training share."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from vaenas.ranges import Place, absolute

Background = Literal["white", "black", "grey"]


@dataclass(frozen=True)
class DataSettings:
    """Where the images are, and how they are read."""

    source: Annotated[
        str,
        AfterValidator(lambda source: source if source in ("builtin", "cifar10") else absolute(source)),
        Field(description="builtin, cifar10, or a folder with train/<class>/<image>"),
    ] = "builtin"
    root: Annotated[
        Place | None, Field(description="where CIFAR-10 is: its folder or tar, or a folder with either")
    ] = None
    download: Annotated[bool, Field(description="fetch CIFAR-10 if it is missing")] = False
    skip_bad_images: Annotated[bool, Field(description="leave out images that cannot be read")] = False
    background: Annotated[Background, Field(description="of a folder: what transparent images are put on")] = "white"
    workers: Annotated[
        int, Field(ge=0, le=256, description="of a folder: decode each batch anew in so many; 0 = once, into a cache")
    ] = 0
    image_size: Annotated[
        int | None,
        Field(
            ge=16,
            le=1024,
            description="side in pixels: of a folder (default 64), or fewer than builtin (28) and cifar10 (32) have",
        ),
    ] = None
