"""Images that stay in their files until a batch needs them: folders that no cache can hold, ImageNet at 224 pixels."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2.functional import pil_to_tensor

from vaenas.data.folder import centre, list_folder, open_rgb, unreadable
from vaenas.data.images import ImageData
from vaenas.errors import UserError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # the usual ones; nothing is read for them

Transform = Callable[[Any], Any]
"""An RGB image of any size (PIL; or uint8 (c, h, w)) -> one of the network's size, by torch's global random numbers."""


@dataclass(frozen=True, eq=False)
class FileSet:
    """As `ImageSet`, but decoded batch by batch.

    `workers`: threads that decode for `batch`, processes that decode for `stream`.
    `skip_bad_images`: what can't be decoded is left out of its batch and noted in `skipped`, instead of ending the run.
    """

    paths: tuple[Path, ...]
    labels: Int64[Tensor, " n"]
    classes: tuple[str, ...]
    image_size: int
    workers: int
    skip_bad_images: bool = False
    skipped: set[str] = field(default_factory=set)
    channels: int = 3

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Int64[Tensor, " b"]) -> tuple[UInt8[Tensor, "_ c h w"], Int64[Tensor, " _"]]:
        """The rows' largest centred squares; fewer than asked for where bad images are skipped.

        Raises:
            UserError: names an image that cannot be decoded.
        """
        dataset = _Decoded(self, None, 0)
        with ThreadPoolExecutor(max(1, self.workers)) as pool:
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
        # With a generator of its own: else making a loader would move torch's, and a resumed run makes one more.
        loader = DataLoader(
            _Decoded(self, transform, seed), batch_sampler=[chunk.tolist() for chunk in chunks],
            num_workers=self.workers, collate_fn=list, generator=torch.Generator(),
        )  # fmt: skip
        for items in loader:
            rows, pixels = self._good(items)
            places = [i % len(rows) for i in range(len(items))]
            yield torch.stack([pixels[i] for i in places]), self.labels[[rows[i] for i in places]]

    def _good(self, items: Sequence["Item"]) -> tuple[list[int], list[UInt8[Tensor, "c h w"]]]:
        """Rows and pixels of what could be decoded."""
        rows, good = [], []
        for row, pixels, reason in items:
            if pixels is not None:
                rows.append(row)
                good.append(pixels)
            elif self.skip_bad_images:
                self.skipped.add(str(self.paths[row]))
            else:
                raise unreadable(self.paths[row], ValueError(reason))
        if not good:
            raise UserError(f"{self.paths[items[0][0]]}: no image of a whole batch can be read; mend them")
        return rows, good


Item = tuple[int, UInt8[Tensor, "c h w"] | None, str]  # row, pixels or why there are none


class _Decoded(Dataset):
    """What a worker does for one row."""

    def __init__(self, images: FileSet, transform: Transform | None, seed: int) -> None:
        self.images, self.transform, self.seed = images, transform, seed

    def __getitem__(self, row: int) -> Item:
        try:
            seed = hash((self.seed, row))
            return row, decoded(self.images.paths[row], self.images.image_size, self.transform, seed), ""
        except Exception as error:  # decoders raise nearly everything
            return row, None, str(error) or type(error).__name__


def decoded(source: Path | BytesIO, size: int, transform: Transform | None, seed: int) -> UInt8[Tensor, "c h w"]:
    """One image by `transform`, with random numbers from `seed`; without one its largest centred square.

    Raises nearly anything where there is no image.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")  # odd metadata
        image = open_rgb(source)
    if transform is None:
        return pil_to_tensor(centre(image, size))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return pil_to_tensor(transform(image))


def load_files(root: Path, image_size: int, skip_bad_images: bool, workers: int) -> ImageData:
    """The folder that `load_folder` would decode, left in its files; mean and deviation are ImageNet's.

    Raises:
        UserError: a folder that is not laid out as `load_folder` needs it. Unreadable images are met later.
    """
    root, classes, files = list_folder(root, image_size)
    sets = {
        part: FileSet(
            tuple(path for path, _ in listed),
            torch.tensor([label for _, label in listed]),
            classes,
            image_size,
            workers,
            skip_bad_images,
        )
        for part, listed in files.items()
    }
    return ImageData(root.name, sets["train"], sets.get("val"), IMAGENET_MEAN, IMAGENET_STD)
