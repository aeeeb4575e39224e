"""Images that stay in their files until a batch needs them: folders that no cache can hold, ImageNet at 224 pixels."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from vaenas.data.decode import Batch, Decoded, Decoder, Findings, Transform
from vaenas.data.pool import process_pool, thread_pool
from vaenas.errors import UserError


@dataclass(frozen=True, eq=False)
class FileSet:
    """As `ImageSet`, but decoded batch by batch.

    `root`: the source's folder, which what is found names its files relative to.
    `workers`: threads that decode for `batch` (0: one a core, at most 8), processes that decode for `stream`.
    `skip_bad_images`: what can't be decoded is left out of its batch, instead of ending the run.
    """

    paths: tuple[Path, ...]
    labels: Int64[Tensor, " n"]
    classes: tuple[str, ...]
    image_size: int
    root: Path
    workers: int = 0
    skip_bad_images: bool = False
    findings: Findings = field(default_factory=Findings)
    channels: int = 3

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Int64[Tensor, " b"]) -> Batch:
        """The rows' largest centred squares; fewer than asked for where bad images are skipped.

        Raises:
            UserError: names an image that cannot be decoded.
        """
        rows, pixels = self.decoded(indices)
        self._raise_if_none(rows, indices)
        return pixels, self.labels[rows]

    def stream(self, chunks: Sequence[Int64[Tensor, " _"]], transform: Transform | None, seed: int) -> Iterator[Batch]:
        """One batch for each of `chunks`, decoded ahead by processes; a bad image's place is taken by a good one.

        Args:
            transform: None: the largest centred square.
            seed: of the transform's random numbers, with the row: they depend on neither worker nor batch.

        Raises:
            UserError: names an image that cannot be decoded.
        """
        dataset = _Rows(self.paths, Decoder(self.image_size, self.findings.background, transform, seed))
        loader = process_pool(dataset, self.workers, batch_sampler=[chunk.tolist() for chunk in chunks])
        for chunk, items in zip(chunks, loader, strict=True):
            rows, pixels = self._good(chunk, items)
            self._raise_if_none(rows, chunk)
            places = torch.arange(len(chunk)) % len(rows)
            yield pixels[places], self.labels[rows][places]

    def decoded(self, indices: Int64[Tensor, " b"]) -> tuple[list[int], UInt8[Tensor, "_ c h w"]]:
        """Those of the rows that can be decoded, perhaps none, and their largest centred squares."""
        dataset = _Rows(self.paths, Decoder(self.image_size, self.findings.background))
        with thread_pool(self.workers or min(8, os.cpu_count() or 1)) as pool:
            return self._good(indices, pool.map(dataset.__getitem__, indices.tolist()))

    def _good(
        self, indices: Int64[Tensor, " b"], items: Iterable[Decoded]
    ) -> tuple[list[int], UInt8[Tensor, "_ c h w"]]:
        rows, good = [], []
        for row, item in zip(indices.tolist(), items, strict=True):
            path = self.paths[row]
            if item.pixels is not None:
                rows.append(row)
                good.append(item.pixels)
                if item.transparent:
                    self.findings.add_transparent(shown(path, self.root), say=self.workers > 0)
            elif self.skip_bad_images:
                self.findings.skipped.add(shown(path, self.root))
            else:
                raise UserError(f"{path}: cannot read the image: {item.reason}; replace it, or use --skip-bad-images")
        return rows, torch.stack(good) if good else torch.empty(
            0, 3, self.image_size, self.image_size, dtype=torch.uint8
        )

    def _raise_if_none(self, rows: list[int], indices: Int64[Tensor, " b"]) -> None:
        if not rows:
            raise UserError(f"{self.paths[int(indices[0])]}: no image of a whole batch can be read; replace them")


class _Rows(Dataset):
    """What a worker does for one row."""

    def __init__(self, paths: tuple[Path, ...], decoder: Decoder) -> None:
        self.paths, self.decoder = paths, decoder

    def __getitem__(self, row: int) -> Decoded:
        return self.decoder(self.paths[row], (row,))


def shown(path: Path, root: Path) -> str:
    """The path relative to the source, whatever bytes are in it."""
    return str(path.relative_to(root)).encode(errors="backslashreplace").decode()
