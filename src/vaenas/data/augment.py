"""Normalisation and the usual augmentation, on a whole batch and on the batch's device."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Generator, Tensor
from torch.nn.functional import pad

from vaenas.parallel import local_chunk, world_size


@dataclass(frozen=True)
class Augment:
    """Random crop of the padded image, random horizontal flip, cutout (DeVries & Taylor 2017, arXiv:1708.04552).

    `mean`, `std`: per channel, of pixels scaled to [0, 1].
    `padding`: pixels added on each side before the crop; 0 = no crop.
    `flip`: mirror each image with probability 1/2.
    `cutout`: side in pixels of the square that is blanked, cut off at the border; 0 = off.

    Padding and cutout are 0 after normalisation: the mean colour.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    padding: int = 4
    flip: bool = True
    cutout: int = 0

    def plain(self, images: UInt8[Tensor, "b c h w"]) -> Float32[Tensor, "b c h w"]:
        """Only normalise: (images / 255 - mean) / std. For evaluation."""
        mean = torch.tensor(self.mean, device=images.device).view(-1, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(-1, 1, 1)
        return (images.float() / 255 - mean) / std

    def __call__(self, images: UInt8[Tensor, "b c h w"], rng: Generator) -> Float32[Tensor, "b c h w"]:
        """Normalise and augment.

        `rng` is a CPU generator, whatever the device of `images`, so that every device sees the same numbers.
        Drawn in this order, each only where it is on: the crops' top-left corners (2, b) in [0, 2 padding], the
        flips (b,) in {0, 1}, the cutouts' centres: rows (b, 1) in [0, h), columns (b, 1) in [0, w). Where several
        processes share a batch, all draw for the whole of it.
        """
        b, c, h, w = images.shape
        n, device = b * world_size(), images.device

        def draw(limit: int, *shape: int, dim: int = 0) -> Int64[Tensor, "..."]:
            return local_chunk(torch.randint(limit, shape, generator=rng), dim).to(device)

        x = self.plain(images)
        rows = torch.arange(h, device=device).expand(b, h)
        columns = torch.arange(w, device=device).expand(b, w)
        if self.padding:
            x = pad(x, [self.padding] * 4)  # b c h+2p w+2p
            top, left = draw(2 * self.padding + 1, 2, n, dim=1)
            rows, columns = rows + top[:, None], columns + left[:, None]
        if self.flip:
            columns = torch.where(draw(2, n).bool()[:, None], columns.flip(1), columns)
        if self.padding or self.flip:
            image, channel = torch.arange(b, device=device), torch.arange(c, device=device)
            x = x[image[:, None, None, None], channel[:, None, None], rows[:, None, :, None], columns[:, None, None, :]]
        if self.cutout:
            blank_rows, blank_columns = (_around(draw(size, n, 1), size, self.cutout) for size in (h, w))
            x = x.masked_fill((blank_rows[:, :, None] & blank_columns[:, None, :])[:, None], 0.0)
        return x


def _around(centre: Int64[Tensor, "b 1"], size: int, side: int) -> Bool[Tensor, "b {size}"]:
    """Which of `size` pixels lie in the `side` pixels around each `centre`."""
    pixels = torch.arange(size, device=centre.device)
    first = centre - side // 2
    return (pixels >= first) & (pixels < first + side)
