"""Training images from WebDataset shards: data that one machine's disk can't hold (`pip install 'vaenas[shards]'`)."""

import io
import itertools
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.utils.data import DataLoader

from vaenas.data.files import Transform, decoded
from vaenas.errors import UserError, require
from vaenas.parallel import rank, world_size

BUFFER = 500  # images among which the next is drawn, beside the order of the shards
Sample = tuple[UInt8[Tensor, "c h w"], int]


@dataclass(frozen=True, eq=False)
class ShardSet:
    """A stream of tar files with `<key>.jpg` (or .jpeg, .png) and `<key>.cls`, the class's number in `classes`.

    `urls`: what webdataset opens: paths, or http(s) and others by its own schemes.
    `images`: in all shards together.
    `workers`: processes that read and decode.
    """

    urls: tuple[str, ...]
    images: int
    classes: tuple[str, ...]
    image_size: int
    workers: int

    def __len__(self) -> int:
        return self.images

    def stream(
        self, chunks: Sequence[Int64[Tensor, " b"]], transform: Transform | None, seed: int
    ) -> Iterator[tuple[UInt8[Tensor, "b c h w"], Int64[Tensor, " b"]]]:
        """A batch for each of `chunks`, of which only number and size count: shards have an order of their own.

        Shards are in an order drawn by `seed` and divided among processes and workers; for one number of both an
        epoch is the same each time, and an epoch that was begun goes on where it was (it reads again what it skips).
        """
        from webdataset.compat import WebDataset

        size = len(chunks[0])
        done = self.images // (size * world_size()) - len(chunks)
        urls = list(self.urls)
        random.Random(seed).shuffle(urls)
        mine = urls[rank() :: world_size()] or urls  # fewer shards than processes: they share them
        stages = WebDataset(mine, shardshuffle=False, nodesplitter=None, empty_check=False, seed=seed)
        stages = stages.shuffle(BUFFER, seed=seed).map(_Decode(self.classes, self.image_size, transform, seed))
        stages = stages.repeat()  # pyright: ignore[reportAttributeAccessIssue]  # the pipeline's own
        workers = min(self.workers, len(mine))  # one without a shard would wait for ever
        loader = DataLoader(stages, size, num_workers=workers, collate_fn=list, generator=torch.Generator())
        for samples in itertools.islice(loader, done, done + len(chunks)):
            for sample in samples:
                if isinstance(sample, str):  # raised in a worker it would come with the worker's traceback
                    raise UserError(sample)
            pixels, labels = zip(*samples, strict=True)
            yield torch.stack(pixels), torch.tensor(labels)


@dataclass(frozen=True)
class _Decode:
    """What a worker does with one sample."""

    classes: tuple[str, ...]
    image_size: int
    transform: Transform | None
    seed: int

    def __call__(self, sample: dict[str, Any]) -> Sample | str:
        """Pixels and label, or why there are none."""
        name = f"{sample['__url__']}, {sample['__key__']}"
        found = next((sample[kind] for kind in ("jpg", "jpeg", "png") if kind in sample), None)
        try:
            label = int(sample["cls"])
            assert 0 <= label < len(self.classes)
        except (KeyError, ValueError, AssertionError):
            return f"{name}: no .cls from 0 to {len(self.classes) - 1} beside the image"
        try:
            seed = hash((self.seed, *sample["__key__"].encode()))
            return decoded(io.BytesIO(found or b""), self.image_size, self.transform, seed), label
        except Exception as error:  # decoders raise nearly everything
            return f"{name}: cannot read the image: {error}; mend it, or leave it out"


def open_shards(index: Path, classes: tuple[str, ...], image_size: int, workers: int) -> ShardSet:
    """The shards that a webdataset index (`wids`) lists: {"shardlist": [{"url": ..., "nsamples": ...}, ...]}.

    Urls without a scheme are relative to the index.

    Raises:
        UserError: webdataset is missing, or the index is none.
    """
    require("webdataset", "shards", f"--shards {index}")
    try:
        listed = json.loads(index.read_text(encoding="utf-8"))["shardlist"]
        urls = [str(shard["url"]) for shard in listed]
        images = sum(int(shard["nsamples"]) for shard in listed)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"--shards {index}: not an index of webdataset shards ({error!r})") from None
    if not urls:
        raise UserError(f"--shards {index}: it lists no shards")
    absolute = tuple(url if ":" in url else str(index.parent.resolve() / url) for url in urls)
    return ShardSet(absolute, images, classes, image_size, max(1, workers))
