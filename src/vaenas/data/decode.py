"""The one door through which image files are decoded, of folders and shards: bounded, and of listed formats alone."""

import multiprocessing
import os
import signal
import stat
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Int64, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms.v2.functional import pil_to_tensor

from vaenas.data.settings import Background
from vaenas.errors import UserError
from vaenas.parallel import is_main

MAX_PIXELS = 40_000_000  # of an image that is decoded: with its copies below 1 GiB
MAX_BYTES = 2**28  # of its file
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # Pillow would start Ghostscript for one of the others
ENDINGS = (*IMG_EXTENSIONS, ".gif")
_LARGE_PIXELS = 2**24
_large = threading.Lock()  # one large image at a time

Batch = tuple[UInt8[Tensor, "_ c h w"], Int64[Tensor, "_"]]
"""Images in [0, 255] and their labels."""

Transform = Callable[[Any], Any]
"""An RGB image of any size (PIL; or uint8 (c, h, w)) -> one of the network's size, by torch's global random numbers."""


@dataclass
class Findings:
    """What is known of a source beside its pixels; grows while files are decoded.

    `listed`: what its listing showed, a line each.
    `background`: what transparent images are put on.
    `skipped`: files that could not be decoded, as paths relative to the source.
    `transparent`: names of images that `background` shows through.
    """

    listed: tuple[str, ...] = ()
    background: Background = "white"
    skipped: set[str] = field(default_factory=set)
    transparent: set[str] = field(default_factory=set)

    def add_transparent(self, name: str, say: bool = True) -> None:
        """Counts an image; the first is named on the terminal."""
        if say and not self.transparent and is_main():
            print(f"vaenas: {name}: transparent, put on {self.background}; others are not named", file=sys.stderr)
        self.transparent.add(name)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know so far, a line each."""
        count, ground = len(self.transparent), self.background
        seen = [f"{count} transparent images are put on {ground} (--data.background)"] if count else []
        return (*self.listed, *seen)


class Decoded(NamedTuple):
    """`pixels`, and whether the background shows through; or why there are none."""

    pixels: UInt8[Tensor, "c h w"] | None
    transparent: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Decoder:
    """Files to RGB images of `size` pixels a side: by `transform`, or without one the largest centred square."""

    size: int
    background: Background
    transform: Transform | None = None
    seed: int = 0

    def __call__(self, source: Path | BytesIO, key: tuple[int, ...] = ()) -> Decoded:
        """The transform's random numbers follow from `seed` and `key`."""
        try:
            with open_rgb(source, self.background) as (image, transparent):
                if self.transform is None:
                    # Crops before it resizes: a long thin image does not become a huge one on the way.
                    square = ImageOps.fit(image, (self.size, self.size), Image.Resampling.BILINEAR)
                    return Decoded(pil_to_tensor(square), transparent)
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(hash((self.seed, *key)))
                    return Decoded(pil_to_tensor(self.transform(image)), transparent)
        except Exception as error:  # decoders raise nearly everything: OSError, SyntaxError, struct.error, ...
            return Decoded(None, reason=str(error) or type(error).__name__)


@contextmanager
def open_rgb(source: Path | BytesIO, background: Background) -> Iterator[tuple[Image.Image, bool]]:
    """The whole image, turned as its EXIF data say, put on `background`; and whether that shows through.

    Raises nearly anything where there is none.
    """
    if isinstance(source, Path):
        found = source.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("not a regular file")
        if found.st_size > MAX_BYTES:
            raise ValueError(f"{found.st_size} bytes are more than {MAX_BYTES}")
    try:
        image = Image.open(source, formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError(f"cannot identify it as one of {', '.join(FORMATS)}") from None
    with image, _large if image.width * image.height > _LARGE_PIXELS else nullcontext():
        (width, height), scale = image.size, 1
        while scale < 8 and -(-width // scale) * -(-height // scale) > MAX_PIXELS:
            scale *= 2
        if scale > 1:  # JPEG alone can be decoded smaller
            image.draft(None, (width // scale, height // scale))
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{width}×{height} is more than {MAX_PIXELS} pixels")
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"mode {image.mode} has more than 8 bits a channel")
        ImageOps.exif_transpose(image, in_place=True)  # copies of a large image are too many
        if not image.has_transparency_data:
            yield image if image.mode == "RGB" else image.convert("RGB"), False
            return
        layers = image if image.mode == "RGBA" else image.convert("RGBA")
        opacity = layers.getchannel("A")
        canvas = Image.new("RGB", layers.size, background)
        canvas.paste(layers, mask=opacity)
        yield canvas, opacity.getextrema() != (255, 255)


def in_threads(function: Callable[[Any], Any], items: Iterable[Any], threads: int) -> list[Any]:
    """`map` by so many threads (0: one a core, at most 8); a signal's exception drops what is queued."""
    pool = ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1))
    try:
        with warnings.catch_warnings():
            _ignore_odd_metadata()
            return [*pool.map(function, items)]
    finally:  # the pool's own `with` would do all of it first
        pool.shutdown(wait=False, cancel_futures=True)


def process_pool(dataset: Any, workers: int, **batching: Any) -> DataLoader:
    """Processes that decode a data set's batches, each a list of its items."""
    # With a generator of its own: else making a loader would move torch's, and a resumed run makes one more.
    return DataLoader(
        dataset, num_workers=workers, collate_fn=list, generator=torch.Generator(), worker_init_fn=_start_worker,
        **batching,
    )  # fmt: skip


def _start_worker(worker: int) -> None:
    """A terminal and a job scheduler signal all processes of a group; the one that decides ends its workers itself."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _ignore_odd_metadata()


def _ignore_odd_metadata() -> None:
    """It is no reason to stop; images that are too large are refused when they are opened."""
    warnings.filterwarnings("ignore", module="PIL")


def check_shared_memory(workers: int) -> None:
    """Raises `UserError` if processes have no memory to share, as in a container without /dev/shm."""
    try:
        multiprocessing.Lock()
        torch.zeros(1).share_memory_()
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"--workers {workers}: the processes that decode share memory, which this system refuses "
            f"({str(error).splitlines()[0]}); mount /dev/shm, or use --workers 0"
        ) from None
