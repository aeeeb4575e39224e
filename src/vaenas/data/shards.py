"""Training images from shards in WebDataset's format, tar files: data that one machine's disk can't hold."""

import io
import itertools
import random
import stat
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import FTPHandler, HTTPHandler, Request, build_opener, url2pathname

import torch
from jaxtyping import Int64, UInt8
from pydantic import BaseModel, Field
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from vaenas.data.decode import ENDINGS, MAX_BYTES, Decoder, Findings, check_shared_memory, process_pool
from vaenas.data.images import Batch, Transform
from vaenas.documents import read_json, regular_file
from vaenas.errors import UserError
from vaenas.parallel import rank, world_size

BUFFER, BUFFER_BYTES = 500, 2**28  # images among which the next is drawn, beside the order of the shards
MOST_IMAGES = 10**9  # of all shards: an epoch's order of them is in memory
SECONDS = 60.0  # that a server may be silent
Sample = tuple[UInt8[Tensor, "c h w"], int, str]
"""Pixels, label, and the name where the background shows through."""


class _Files(NamedTuple):
    """Those of a shard that have one name, by their endings."""

    url: str
    key: str
    contents: dict[str, bytes]


@dataclass(frozen=True, eq=False)
class ShardSet:
    """A stream of tar files with `<key>.jpg` (or another of `ENDINGS`) and `<key>.cls`, the number of its class.

    `urls`: absolute paths and https.
    `images`: in all shards together.
    `workers`: processes that read and decode.
    `content`: changes with the shards that are listed, not with what is in them.
    """

    urls: tuple[str, ...]
    images: int
    classes: tuple[str, ...]
    image_size: int
    workers: int
    content: str
    findings: Findings

    def __len__(self) -> int:
        return self.images

    def stream(self, chunks: Sequence[Int64[Tensor, " b"]], transform: Transform | None, seed: int) -> Iterator[Batch]:
        """A batch for each of `chunks`, of which only number and size count.

        Shards are in an order drawn by `seed` and divided among processes and workers; for one number of both an
        epoch is the same each time, and an epoch that was begun goes on where it was (it reads again what it skips).
        """
        size = len(chunks[0])
        done = self.images // (size * world_size()) - len(chunks)
        urls = list(self.urls)
        random.Random(seed).shuffle(urls)
        mine = urls[rank() :: world_size()] or urls  # fewer shards than processes: they share them
        workers = min(self.workers, len(mine))  # one without a shard would wait for ever
        decoder = Decoder(self.image_size, self.findings.background, transform, seed)
        loader = process_pool(_Stream(mine, len(self.classes), decoder), workers, batch_size=size)
        for number, samples in enumerate(itertools.islice(loader, done + len(chunks))):
            for sample in samples:
                if isinstance(sample, str):  # raised in a worker it would come with the worker's traceback
                    raise UserError(sample)
                if sample[2]:
                    self.findings.add_transparent(sample[2])
            if number >= done:
                pixels, labels, _ = zip(*samples, strict=True)
                yield torch.stack(pixels), torch.tensor(labels)


@dataclass
class _Stream(IterableDataset):
    """What a worker does: its share of the shards, again and again, each time mixed."""

    urls: list[str]
    classes: int
    decoder: Decoder

    def __iter__(self) -> Iterator[Sample | str]:
        """Samples, or why there are no more."""
        worker = get_worker_info()
        assert worker is not None
        urls = self.urls[worker.id :: worker.num_workers]
        rng = random.Random(f"{self.decoder.seed} {worker.id}")
        while True:
            empty = True
            try:
                for files in _mixed(itertools.chain.from_iterable(map(_samples, urls)), rng):
                    empty = False
                    yield self._decoded(files)
            except ValueError as error:
                yield f"{error}; put the shard right, or leave it out"
            if empty:
                yield f"{', '.join(urls[:3])}: no images in a worker's share of the shards"

    def _decoded(self, files: _Files) -> Sample | str:
        name = f"{files.url}, {files.key}"
        try:
            label = int(files.contents[".cls"])
            assert 0 <= label < self.classes
        except (KeyError, ValueError, AssertionError):
            return f"{name}: no .cls from 0 to {self.classes - 1} beside the image"
        found = next((files.contents[ending] for ending in ENDINGS if ending in files.contents), None)
        if found is None:
            return f"{name}: no image beside the .cls ({' '.join(ENDINGS)})"
        pixels, transparent, reason = self.decoder(io.BytesIO(found), (*files.key.encode(errors="surrogateescape"),))
        if pixels is None:
            return f"{name}: cannot read the image: {reason}; replace it, or leave it out"
        return pixels, label, name if transparent else ""


def _mixed(samples: Iterator[_Files], rng: random.Random) -> Iterator[_Files]:
    """In a random order, but none much later than it came."""
    waiting: list[tuple[int, _Files]] = []
    held = 0
    for sample in samples:
        size = sum(map(len, sample.contents.values()))
        waiting.append((size, sample))
        held += size
        while len(waiting) > BUFFER or held > BUFFER_BYTES:
            row = rng.randrange(len(waiting))
            waiting[row], waiting[-1] = waiting[-1], waiting[row]
            size, chosen = waiting.pop()
            held -= size
            yield chosen
    rng.shuffle(waiting)
    yield from (sample for _, sample in waiting)


def _samples(url: str) -> Iterator[_Files]:
    """The samples of a shard. Names in it tell what belongs together; nothing is opened by them."""
    for key, members in itertools.groupby(_members(url), lambda member: member[0]):
        yield _Files(url, key, {ending: content for _, ending, content in members})


def _members(url: str) -> Iterator[tuple[str, str, bytes]]:
    """The files of a shard: name, ending, content.

    Raises `ValueError` that names the shard and, where there is one, the member.
    """
    where, remote = url, url.startswith("https:")
    try:
        opened = build_opener(_OnlyHttps).open(url, timeout=SECONDS) if remote else regular_file(Path(url))
        with opened as file, tarfile.open(fileobj=file, mode="r|*") as tar:
            for member in tar:
                folder, slash, name = member.name.rpartition("/")
                stem, dot, ending = name.partition(".")
                content = tar.extractfile(member) if member.isreg() and stem and dot else None
                if content is None:
                    continue
                where = f"{url}, {member.name}"
                if member.size > MAX_BYTES:
                    raise ValueError(f"{member.size} bytes are more than {MAX_BYTES}")
                yield folder + slash + stem, f".{ending.lower()}", content.read()
    except Exception as error:  # no such file, no answer, no tar
        raise ValueError(f"{where}: cannot read the shard: {error or type(error).__name__}") from error


class _OnlyHttps(HTTPHandler, FTPHandler):
    """A server may name another, but not another way to get there."""

    def http_open(self, req: Request) -> Any:
        raise ValueError(f"it leads to {req.full_url}, which is not https")

    ftp_open = http_open


class _Shard(BaseModel):
    url: str = Field(min_length=1)
    nsamples: int = Field(ge=0, le=MOST_IMAGES)


class _Index(BaseModel):
    """What of a webdataset index (`wids`) counts here."""

    shardlist: list[_Shard] = Field(min_length=1)


def open_shards(index: Path, classes: tuple[str, ...], image_size: int, workers: int, findings: Findings) -> ShardSet:
    """The shards that a webdataset index (`wids`) lists: {"shardlist": [{"url": ..., "nsamples": ...}, ...]}.

    A url is https, or a path (with or without file:), relative to the index.

    Raises `UserError`: the index is none, names a shard in another way, or one that is missing.
    """
    listed = read_json(_Index, index, "give an index of webdataset shards").shardlist
    images = sum(shard.nsamples for shard in listed)
    if images > MOST_IMAGES:
        raise UserError(f"--shards {index}: {images} samples are more than {MOST_IMAGES}; list fewer shards")
    check_shared_memory(workers)
    urls, sizes = zip(*(_checked(index, shard.url) for shard in listed), strict=True)
    facts = [[shard.url, shard.nsamples, size] for shard, size in zip(listed, sizes, strict=True)]
    return ShardSet(urls, images, classes, image_size, max(1, workers), str(facts), findings)


def _checked(index: Path, url: str) -> tuple[str, int]:
    """What to open for an url of the index, and its size if it is a file here, else 0."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("none:")
    if parts.scheme == "https" and parts.netloc:
        return parts.geturl(), 0  # the scheme in small letters, and no spaces before it
    if parts.scheme not in ("", "file") or parts.netloc:
        raise UserError(f"--shards {index}: {url}: choose a path or https; nothing else is opened")
    path = index.parent.resolve() / (url2pathname(parts.path) if parts.scheme else url)
    try:
        found = path.stat()
    except (OSError, ValueError) as error:  # a NUL in it, for example
        raise UserError(f"--shards {index}: {url}: cannot read the shard: {error}") from None
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"--shards {index}: {url}: cannot read the shard: not a regular file")
    return str(path), found.st_size
