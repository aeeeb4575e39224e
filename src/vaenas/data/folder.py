"""Folders of images: decoded once into the cache and memory-mapped, or left in their files."""

import hashlib
import json
import shutil
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from pydantic import BaseModel
from torch import Tensor

from vaenas.data.cache import content_digest, new_folder, stats_digest
from vaenas.data.decode import Findings, check_shared_memory
from vaenas.data.images import FileSet, ImageData, ImageSet, pixel_statistics
from vaenas.data.listing import list_folder, raise_if_empty
from vaenas.data.settings import DataSettings
from vaenas.errors import UserError

SIZE = 64  # where the user asks for none
MAX_SIZE = 1024
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # the usual ones; nothing is read for them
_DECODING = "3"  # part of the cache's key: raise it when the same files give other pixels
_CHUNK = 128  # images decoded before they are written


class _About(BaseModel):
    """`about.json` of a decoded folder."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    bad: dict[str, set[int]]  # rows of each part's list of files that could not be read
    transparent: list[str]


def load_folder(settings: DataSettings, cache: Path) -> ImageData:
    """RGB images of `train/<class>/`, and as the test set those of `val/<class>/` where there are any.

    Each image's largest centred square is resized to `image_size` pixels (64). With `workers` this is done anew for
    each batch, and mean and deviation are ImageNet's. Without, the first load decodes the files into `cache`; a load
    of the same files finds them there, and decodes them again where they are damaged.

    Raises `UserError` for an unreadable image (unless `skip_bad_images`), what `list_folder` raises, a full disk.
    """
    size, workers = SIZE if settings.image_size is None else settings.image_size, settings.workers
    if not 1 <= size <= MAX_SIZE:
        raise UserError(f"image size {size}: choose from 1 to {MAX_SIZE} pixels")
    if workers:
        check_shared_memory(workers)
    root, classes, listed, notes = list_folder(Path(settings.source))
    findings = Findings(notes, settings.background)
    parts: dict[str, FileSet] = {}
    for part, files in listed.items():
        paths, labels = zip(*files, strict=True)
        skip = settings.skip_bad_images
        parts[part] = FileSet(paths, torch.tensor(labels), classes, size, root, workers, skip, findings)
    every = [path for files in parts.values() for path in files.paths]
    if not workers:
        facts = [_DECODING, str(root), size, settings.skip_bad_images, settings.background, stats_digest(every, root)]
        return _decoded_once(parts, cache / "folders" / _hashed(facts))
    memory = cache / "digests" / f"{_hashed(str(root))}.json"
    train, test = parts.pop("train"), next(iter(parts.values()), None)
    content = partial(content_digest, every, root, memory)
    return ImageData(root.name, train, test, IMAGENET_MEAN, IMAGENET_STD, content, findings)


def _hashed(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _decoded_once(parts: dict[str, FileSet], target: Path) -> ImageData:
    """The parts' images in memory-mapped files of the folder `target`, in which they are decoded unless it is whole."""
    about = _read_about(target, parts)
    if about is None:
        shutil.rmtree(target, ignore_errors=True)
        with new_folder(target) as folder:
            _decode(parts, folder)
        about = _read_about(target, parts)
        if about is None:
            raise UserError(f"{target}: the cached images are damaged and cannot be replaced; delete this folder")
    sets: list[ImageSet] = []
    findings = parts["train"].findings
    findings.transparent.update(about.transparent)
    for part, files in parts.items():
        good = [row for row in range(len(files)) if row not in about.bad[part]]
        sets.append(ImageSet(_images(target, part, len(good), files.image_size), files.labels[good], files.classes))
        findings.skipped.update(map(files.name, about.bad[part]))
    train, *test = sets
    name, content = parts["train"].root.name, partial(_content, target, parts)
    return ImageData(name, train, test[0] if test else None, about.mean, about.std, content, findings)


def _decode(parts: dict[str, FileSet], folder: Path) -> None:
    """Writes `<part>-images.bin` (raw uint8), `about.json` and the digest of them all into `folder`."""
    good: dict[str, list[int]] = {part: [] for part in parts}
    for part, files in parts.items():
        # Written as a file, not as a memory map: a full disk is then an error, where a map would kill the process.
        with (folder / f"{part}-images.bin").open("wb") as file:
            for rows in torch.arange(len(files)).split(_CHUNK):
                for row, pixels in files.decoded(rows):
                    file.write(pixels.numpy().tobytes())
                    good[part].append(row)
        labels = {*files.labels[good[part]].tolist()}
        raise_if_empty(files.root / part, files.classes, labels, "none of its images can be read")
    train = parts["train"]
    mean, std = pixel_statistics(_images(folder, "train", len(good["train"]), train.image_size))
    bad = {part: {*range(len(files))} - {*good[part]} for part, files in parts.items()}
    about = _About(mean=mean, std=std, bad=bad, transparent=sorted(train.findings.transparent))
    (folder / "about.json").write_text(about.model_dump_json())
    (folder / "content").write_text(_content(folder, parts))


def _read_about(folder: Path, parts: dict[str, FileSet]) -> _About | None:
    """What a cached folder holds; None where there is none, or where it is not what was written."""
    try:
        about = _About.model_validate_json((folder / "about.json").read_bytes())
        return about if (folder / "content").read_text() == _content(folder, parts) else None
    except (OSError, ValueError):
        return None


def _content(folder: Path, parts: dict[str, FileSet]) -> str:
    names = ["about.json", *(f"{part}-images.bin" for part in parts)]
    return content_digest([folder / name for name in names], folder, folder / "digest.json")


def _images(folder: Path, part: str, rows: int, size: int) -> UInt8[Tensor, "{rows} 3 {size} {size}"]:
    array = np.memmap(folder / f"{part}-images.bin", np.uint8, mode="r", shape=(rows, 3, size, size))
    with warnings.catch_warnings():
        # Writing to it would crash; but Linux refuses a copy-on-write map that is larger than its memory and swap.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)
        return torch.from_numpy(array)
