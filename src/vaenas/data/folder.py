"""Folders of images: decoded once into the cache and memory-mapped, or left in their files."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from pydantic import BaseModel, ValidationError
from torch import Tensor

from vaenas.data.cache import content_digest, new_folder, stats_digest, tensor_of
from vaenas.data.decode import Findings, transparency
from vaenas.data.files import FileSet, shown
from vaenas.data.images import ImageData, ImageSet, pixel_statistics
from vaenas.data.listing import list_folder, raise_if_empty
from vaenas.data.pool import check_shared_memory
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
    transparent: int
    content: str  # digest of the pixels
    checksum: str = ""  # of all the above

    def checked(self) -> "_About":
        """With its checksum."""
        text = self.model_dump_json(exclude={"checksum"})
        return self.model_copy(update={"checksum": hashlib.sha256(text.encode()).hexdigest()})


def load_folder(settings: DataSettings, cache: Path) -> ImageData:
    """RGB images of `train/<class>/`, and as the test set those of `val/<class>/` where there are any.

    Each image's largest centred square is resized to `image_size` pixels (64). With `workers` this is done anew for
    each batch, and mean and deviation are ImageNet's. Without, the first load decodes the files into `cache`; a load
    of the same files finds them there, and decodes them again where they are damaged.

    Raises `UserError` for an unreadable image (unless `skip_bad_images`), what `list_folder` raises, a full disk.
    """
    size = SIZE if settings.image_size is None else settings.image_size
    if not 1 <= size <= MAX_SIZE:
        raise UserError(f"image size {size}: choose from 1 to {MAX_SIZE} pixels")
    if settings.workers:
        check_shared_memory(settings.workers)
    root, classes, listed, notes = list_folder(Path(settings.source))
    findings = Findings(notes, settings.background)
    parts: dict[str, FileSet] = {}
    for part, files in listed.items():
        paths, labels = tuple(path for path, _ in files), torch.tensor([label for _, label in files])
        bad_and_found = settings.skip_bad_images, findings
        parts[part] = FileSet(paths, labels, classes, size, root, settings.workers, *bad_and_found)
    every = [path for files in parts.values() for path in files.paths]
    if not settings.workers:
        facts = [_DECODING, str(root), size, settings.skip_bad_images, settings.background, stats_digest(every, root)]
        return _decoded_once(parts, notes, cache / "folders" / _hashed(facts))
    memory = cache / "digests" / f"{_hashed(str(root))}.json"
    train, *test = parts.values()
    return ImageData(
        root.name, train, test[0] if test else None, IMAGENET_MEAN, IMAGENET_STD,
        lambda: content_digest(every, root, memory), findings,
    )  # fmt: skip


def _hashed(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _decoded_once(parts: dict[str, FileSet], notes: tuple[str, ...], target: Path) -> ImageData:
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
    findings = Findings(notes, parts["train"].findings.background)
    for part, files in parts.items():
        good = [row for row in range(len(files)) if row not in about.bad[part]]
        images = _open_images(target, part, len(good), files.image_size)
        sets.append(ImageSet(images, files.labels[good], files.classes))
        findings.skipped.update(shown(files.paths[row], files.root) for row in about.bad[part])
    if about.transparent:
        findings.listed = (*notes, transparency(about.transparent, findings.background))
    train, *test = sets
    name, content = parts["train"].root.name, about.content
    return ImageData(name, train, test[0] if test else None, about.mean, about.std, lambda: content, findings)


def _decode(parts: dict[str, FileSet], folder: Path) -> None:
    """Writes `<part>-images.bin` (raw uint8) and `about.json` into `folder`."""
    bad: dict[str, set[int]] = {}
    for part, files in parts.items():
        rows = _decode_part(files, folder / f"{part}-images.bin")
        bad[part] = {*range(len(files))} - {*rows}
        labels = set(files.labels[rows].tolist())
        raise_if_empty(files.root / part, files.classes, labels, "none of its images can be read")
    train = parts["train"]
    images = _open_images(folder, "train", len(train) - len(bad["train"]), train.image_size)
    mean, std = pixel_statistics(images)
    transparent, content = len(train.findings.transparent), _content(folder, parts)
    about = _About(mean=mean, std=std, bad=bad, transparent=transparent, content=content)
    (folder / "about.json").write_text(about.checked().model_dump_json())


def _decode_part(files: FileSet, target: Path) -> list[int]:
    """Writes the images one after the other; returns the rows that could be read."""
    good: list[int] = []
    # Written as a file, not as a memory map: a full disk is then an error, where a map would kill the process.
    with target.open("wb") as file:
        for chunk in torch.arange(len(files)).split(_CHUNK):
            rows, pixels = files.decoded(chunk)
            file.write(pixels.numpy().tobytes())
            good += rows
    return good


def _read_about(folder: Path, parts: dict[str, FileSet]) -> _About | None:
    """What a cached folder holds; None where there is none, or where it is not what was written."""
    try:
        about = _About.model_validate_json((folder / "about.json").read_bytes())
        return about if about == about.checked() and about.content == _content(folder, parts) else None
    except (OSError, ValidationError):
        return None


def _content(folder: Path, parts: dict[str, FileSet]) -> str:
    return content_digest([folder / f"{part}-images.bin" for part in parts], folder, folder / "digest.json")


def _open_images(folder: Path, part: str, rows: int, size: int) -> UInt8[Tensor, "{rows} 3 {size} {size}"]:
    return tensor_of(np.memmap(folder / f"{part}-images.bin", np.uint8, mode="r", shape=(rows, 3, size, size)))
