"""Images that stay in their files until a batch needs them: folders that no cache can hold, ImageNet at 224 pixels."""

import hashlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import pil_to_tensor

from vaenas.data.cache import content_digest
from vaenas.data.folder import Background, centre, list_folder, open_rgb, unreadable
from vaenas.data.images import ImageData
from vaenas.data.pool import check_shared_memory, process_pool, thread_pool
from vaenas.errors import UserError
from vaenas.parallel import is_main

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # the usual ones; nothing is read for them

Transform = Callable[[Any], Any]
"""An RGB image of any size (PIL; or uint8 (c, h, w)) -> one of the network's size, by torch's global random numbers."""


@dataclass(frozen=True, eq=False)
class FileSet:
    """As `ImageSet`, but decoded batch by batch.

    `workers`: threads that decode for `batch`, processes that decode for `stream`.
    `skip_bad_images`: what can't be decoded is left out of its batch and noted in `skipped`, instead of ending the run.
    `digest`: where `content` is kept, so that the files are read for it once.
    `transparent`: rows of images that were put on `background`, so far.
    """

    paths: tuple[Path, ...]
    labels: Int64[Tensor, " n"]
    classes: tuple[str, ...]
    image_size: int
    workers: int
    root: Path
    digest: Path
    skip_bad_images: bool = False
    background: Background = "white"
    skipped: set[str] = field(default_factory=set)
    transparent: set[str] = field(default_factory=set)
    channels: int = 3

    def __len__(self) -> int:
        return len(self.labels)

    def content(self) -> str:
        """Changes with any file and their order.

        Raises:
            UserError: the cache cannot be written.
        """
        return content_digest(self.paths, self.root, self.digest)

    def batch(self, indices: Int64[Tensor, " b"]) -> tuple[UInt8[Tensor, "_ c h w"], Int64[Tensor, " _"]]:
        """The rows' largest centred squares; fewer than asked for where bad images are skipped.

        Raises:
            UserError: names an image that cannot be decoded.
        """
        dataset = _Decoded(self, None, 0)
        with thread_pool(max(1, self.workers)) as pool:
            items = list(pool.map(dataset.__getitem__, indices.tolist()))
        rows, pixels = self._good(items)
        return torch.stack(pixels), self.labels[rows]

    def stream(
        self, chunks: Sequence[Int64[Tensor, " _"]], transform: Transform | None, seed: int
    ) -> Iterator[tuple[UInt8[Tensor, "_ c h w"], Int64[Tensor, " _"]]]:
        """One batch for each of `chunks`, decoded ahead by processes; a bad image's place is taken by a good one.

        Args:
            transform: None: the largest centred square.
            seed: of the transform's random numbers, with the row: they depend on neither worker nor batch.

        Raises:
            UserError: names an image that cannot be decoded.
        """
        batches = [chunk.tolist() for chunk in chunks]
        for items in process_pool(_Decoded(self, transform, seed), self.workers, batch_sampler=batches):
            rows, pixels = self._good(items)
            places = [i % len(rows) for i in range(len(items))]
            yield torch.stack([pixels[i] for i in places]), self.labels[[rows[i] for i in places]]

    def _good(self, items: Sequence["Item"]) -> tuple[list[int], list[UInt8[Tensor, "c h w"]]]:
        """Rows and pixels of what could be decoded."""
        rows, good = [], []
        for row, pixels, reason in items:
            if pixels is not None:
                if reason:
                    note_transparent(self.transparent, str(self.paths[row]), self.background)
                rows.append(row)
                good.append(pixels)
            elif self.skip_bad_images:
                self.skipped.add(str(self.paths[row]))
            else:
                raise unreadable(self.paths[row], ValueError(reason))
        if not good:
            raise UserError(f"{self.paths[items[0][0]]}: no image of a whole batch can be read; replace them")
        return rows, good


Item = tuple[int, UInt8[Tensor, "c h w"] | None, str]  # row, pixels or why there are none; "transparent" beside some


def note_transparent(seen: set[str], name: str, background: Background) -> None:
    """Counts a transparent image; the first is named on the terminal."""
    if not seen and is_main():
        print(f"vaenas: {name}: transparent, put on {background}; others are not named", file=sys.stderr)
    seen.add(name)


class _Decoded(Dataset):
    """What a worker does for one row."""

    def __init__(self, images: FileSet, transform: Transform | None, seed: int) -> None:
        self.images, self.transform, self.seed = images, transform, seed

    def __getitem__(self, row: int) -> Item:
        try:
            images, seed = self.images, hash((self.seed, row))
            pixels, transparent = decoded(images.paths[row], images.image_size, self.transform, seed, images.background)
            return row, pixels, "transparent" if transparent else ""
        except Exception as error:  # decoders raise nearly everything
            return row, None, str(error) or type(error).__name__


def decoded(
    source: Path | BytesIO, size: int, transform: Transform | None, seed: int, background: Background
) -> tuple[UInt8[Tensor, "c h w"], bool]:
    """One image by `transform`, with random numbers from `seed`; without one its largest centred square.

    And whether `background` shows through it. Raises nearly anything where there is no image.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")  # odd metadata
        with open_rgb(source, background) as (image, transparent):
            if transform is None:
                return pil_to_tensor(centre(image, size)), transparent
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                return pil_to_tensor(transform(image)), transparent


def load_files(
    root: Path, image_size: int, skip_bad_images: bool, workers: int, background: Background, cache: Path
) -> ImageData:
    """The folder that `load_folder` would decode, left in its files; mean and deviation are ImageNet's.

    Raises:
        UserError: a folder that is not laid out as `load_folder` needs it. Unreadable images are met later.
    """
    check_shared_memory(workers)
    root, classes, files, notes = list_folder(root, image_size)
    sets = [
        FileSet(
            tuple(path for path, _ in listed),
            torch.tensor([label for _, label in listed]),
            classes,
            image_size,
            workers,
            root,
            cache / "digests" / f"{hashlib.sha256(os.fsencode(root / part)).hexdigest()}.json",
            skip_bad_images,
            background,
        )
        for part, listed in files.items()
    ]
    return ImageData(root.name, sets[0], sets[1] if len(sets) == 2 else None, IMAGENET_MEAN, IMAGENET_STD, notes=notes)
