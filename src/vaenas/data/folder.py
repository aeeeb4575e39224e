"""Folders of images, `train/<class>/*` and optionally `val/<class>/*`: decoded once, then memory-mapped."""

import hashlib
import json
import os
import shutil
import stat
import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from io import BytesIO
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import BaseModel, ValidationError
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS

from vaenas.data.cache import content_digest, new_folder, stats_digest, tensor_of
from vaenas.data.images import ImageData, ImageSet, pixel_statistics
from vaenas.data.pool import thread_pool
from vaenas.errors import UserError

Background = Literal["white", "black", "grey"]

SIZE = 64  # where the user asks for none
MAX_SIZE = 1024
MAX_PIXELS = 40_000_000  # of an image that is decoded: with its copies below 1 GiB
MAX_BYTES = 2**28  # of its file
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # Pillow would start Ghostscript for one of the others
ENDINGS = (*IMG_EXTENSIONS, ".gif")
TEST_PARTS = ("val", "valid", "validation", "test")  # the first that is there is the test part
# What systems leave in folders, beside names that begin with a dot.
LITTER = {"__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "lost+found", "@eadir"}
AGAIN = "by links a second time"
_DECODING = "3"  # part of the cache's key: raise it when the same files give other pixels
_CHUNK = 128  # images decoded before they are written
_LARGE_PIXELS = 2**24
_large = threading.Lock()  # one large image at a time

Listed = list[tuple[Path, int]]  # a file and its label


class _Entry(NamedTuple):
    """Something in a folder."""

    path: str
    real: str  # path without links
    linked: bool  # links lead there from its part of the data
    is_folder: bool


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


def load_folder(root: Path, image_size: int, skip_bad_images: bool, background: Background, cache: Path) -> ImageData:
    """RGB images of `root/train/<class>/`, and as the test set those of `root/val/<class>/` where there are any.

    Each image's largest centred square is resized to `image_size` pixels. The first load decodes the files into
    `cache`; a load of the same files finds them there, and decodes them again where they are damaged.

    `skip_bad_images`: leave out what cannot be decoded, and list it in `ImageData.skipped`.
    Raises `UserError` for an unreadable image (else), a folder that is not laid out so, fewer than two classes, an
    empty class, other classes in `val` than in `train`, a full disk.
    """
    root, classes, files, notes = list_folder(root, image_size)
    facts = [_DECODING, str(root), image_size, skip_bad_images, background]
    facts.append(stats_digest([path for listed in files.values() for path, _ in listed], root))
    target = cache / "folders" / hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    about = _read_about(target, files)
    if about is None:
        shutil.rmtree(target, ignore_errors=True)
        with new_folder(target) as folder:
            decoded = {
                part: _decode_all(folder, part, root, classes, listed, image_size, skip_bad_images, background)
                for part, listed in files.items()
            }
            rows = len(files["train"]) - len(decoded["train"][0])
            mean, std = pixel_statistics(_open_images(folder, "train", rows, image_size))
            written = _About(
                mean=mean,
                std=std,
                bad={part: bad for part, (bad, _) in decoded.items()},
                transparent=sum(transparent for _, transparent in decoded.values()),
                content=_content(folder, files),
            )
            (folder / "about.json").write_text(written.checked().model_dump_json())
        about = _read_about(target, files)
        if about is None:
            raise UserError(f"{target}: the cached images are damaged and cannot be replaced; delete this folder")
    sets = []
    for part, listed in files.items():
        labels = torch.tensor([label for row, (_, label) in enumerate(listed) if row not in about.bad[part]])
        sets.append(ImageSet((_open_images(target, part, len(labels), image_size),), labels, classes))
    if about.transparent:
        notes = (*notes, transparency(about.transparent, background))
    return ImageData(
        name=root.name,
        train=sets[0],
        test=sets[1] if len(sets) == 2 else None,
        mean=about.mean,
        std=about.std,
        skipped=tuple(
            _shown(listed[row][0], root) for part, listed in files.items() for row in sorted(about.bad[part])
        ),
        notes=notes,
        content=about.content,
    )


def transparency(count: int, background: str) -> str:
    """What is said of transparent images."""
    return f"{count} transparent images are put on {background} (--background)"


def _shown(path: Path, root: Path) -> str:
    return str(path.relative_to(root)).encode(errors="backslashreplace").decode()


def list_folder(root: Path, image_size: int) -> tuple[Path, tuple[str, ...], dict[str, Listed], tuple[str, ...]]:
    """The folder, its classes, the files of "train" and, where there is one, of the test part, and what to say of them.

    Names with a dot in front and `LITTER` are left out. Links are followed, but each file is taken once.
    Raises what `load_folder` raises before it opens an image.
    """
    if not 1 <= image_size <= MAX_SIZE:
        raise UserError(f"image size {image_size}: choose from 1 to {MAX_SIZE} pixels")
    root = root.expanduser().resolve()
    if not (root / "train").is_dir():
        raise UserError(f"{root / 'train'}: no such folder; put the images into {root / 'train'}/<class>/")
    left_out: Counter[str] = Counter()
    try:
        folders = {Path(entry.path).name for entry in _entries(str(root), str(root), False) if entry.is_folder}
        found = {"train": _list_part(root / "train", left_out)}
        test = next((part for part in TEST_PARTS if part in folders and _class_folders(root / part)), None)
        if test is not None:
            found[test] = _list_part(root / test, left_out)
    except OSError as error:
        raise UserError(f"{error.filename}: cannot read the folder: {error.strerror}") from error
    files = _each_once({part: listed for part, (_, listed) in found.items()}, left_out)
    for part, (names, _) in found.items():
        why = f"it has no images of its own ({' '.join(ENDINGS)})"
        _raise_if_empty(root / part, names, {label for _, label in files[part]}, why)
    classes = found["train"][0]
    if len(classes) < 2:
        raise UserError(
            f"{root / 'train'}: {len(classes)} class folders, at least 2 are needed: {root / 'train'}/<class>/<image>"
        )
    if test is not None and found[test][0] != classes:
        extra, missing = sorted({*found[test][0]} - {*classes}), sorted({*classes} - {*found[test][0]})
        message = f"{root / test}: its classes differ from those of train: "
        raise UserError(message + f"extra {extra}, missing {missing}; make them the same, or remove {test}")
    notes = []
    if test not in (None, "val"):
        notes.append(f"{test}/ is the test part")
    unused = sorted(folders - {"train", test})
    if unused:
        notes.append(f"folders beside train/ that are not used: {_some([f'{ascii(name)[1:-1]}/' for name in unused])}")
    if left_out.total():
        notes.append(f"left out: {_some([f'{n} {what}' for what, n in left_out.most_common() if n])}")
    return root, classes, files, tuple(notes)


def _some(items: list[str], most: int = 8) -> str:
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


def _entries(folder: str, real: str, linked: bool, hidden: Counter[str] | None = None) -> Iterator[_Entry]:
    """What is in a folder, in the order of names, without the systems' litter, which is counted."""
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.name.startswith(".") or entry.name.casefold() in LITTER:
            if hidden is not None:
                hidden["hidden or the system's own"] += 1
            continue
        link = entry.is_symlink()
        yield _Entry(
            entry.path,
            os.path.realpath(entry.path) if link else os.path.join(real, entry.name),
            linked or link,
            os.path.isdir(entry.path) if link else entry.is_dir(follow_symlinks=False),
        )


def _class_folders(part: Path) -> list[_Entry]:
    return [entry for entry in _entries(str(part), os.path.realpath(part), False) if entry.is_folder]


def _list_part(part: Path, left_out: Counter[str]) -> tuple[tuple[str, ...], list[tuple[_Entry, int]]]:
    """The classes, sorted, and each image with its label, class by class; `left_out` counts the rest."""
    for entry in _entries(str(part), str(part), False, left_out):
        if not entry.is_folder:
            left_out[f"{_ending(entry.path)} outside the class folders"] += 1
    classes, images = [], []
    for label, folder in enumerate(_class_folders(part)):
        name = os.path.basename(folder.path)
        if not name.isprintable():
            raise UserError(f"{part}: the class {name!r} has characters that cannot be printed; rename its folder")
        classes.append(name)
        files = []
        for entry in _files_below(folder, left_out):
            if entry.path.lower().endswith(ENDINGS):
                files.append(entry)
            else:
                left_out[_ending(entry.path)] += 1
        images += [(entry, label) for entry in sorted(files, key=lambda entry: os.path.split(entry.path))]
    return tuple(classes), images


def _ending(path: str) -> str:
    ending = os.path.splitext(path)[1].lower()
    return ending if ending.isprintable() and 1 < len(ending) <= 10 else "of no known kind"


def _files_below(folder: _Entry, left_out: Counter[str]) -> Iterator[_Entry]:
    """All files; each real folder is entered once, by a way without links if there is one."""
    entered, folders = set(), [folder]
    linked: list[_Entry] = []
    while folders or linked:
        here = (folders or linked).pop()
        if here.real in entered:
            left_out[AGAIN] += 1
            continue
        entered.add(here.real)
        for entry in _entries(here.path, here.real, here.linked, left_out):
            if entry.is_folder:
                (linked if entry.linked else folders).append(entry)
            else:
                yield entry


def _each_once(found: dict[str, list[tuple[_Entry, int]]], left_out: Counter[str]) -> dict[str, Listed]:
    """Each real file once, where it is itself rather than a link: none is in two classes, or trains and tests."""
    place: dict[str, str] = {}
    for linked in (False, True):
        for listed in found.values():
            for entry, _ in listed:
                if entry.linked == linked:
                    place.setdefault(entry.real, entry.path)
    files = {
        part: [(Path(entry.path), label) for entry, label in listed if place[entry.real] == entry.path]
        for part, listed in found.items()
    }
    left_out[AGAIN] += sum(map(len, found.values())) - sum(map(len, files.values()))
    return files


def _raise_if_empty(folder: Path, classes: Sequence[str], labels: set[int], why: str) -> None:
    for label, name in enumerate(classes):
        if label not in labels:
            raise UserError(f"{folder / name}: {why}; add some, or remove the class")


def _decode_all(
    folder: Path,
    part: str,
    root: Path,
    classes: tuple[str, ...],
    files: Listed,
    image_size: int,
    skip_bad_images: bool,
    background: Background,
) -> tuple[set[int], int]:
    """Write `<part>-images.bin` (raw uint8) into `folder`; return the rows left out and how many are transparent."""
    bad: set[int] = set()
    count = 0
    # Written as a file, not as a memory map: a full disk is then an error, where a map would kill the process.
    with (
        (folder / f"{part}-images.bin").open("wb") as file,
        thread_pool(min(8, os.cpu_count() or 1)) as pool,
        warnings.catch_warnings(),
    ):
        # Odd metadata is no reason to stop, and images that are too large are refused by open_rgb.
        warnings.filterwarnings("ignore", module="PIL")
        for start in range(0, len(files), _CHUNK):
            chunk = files[start : start + _CHUNK]
            images = pool.map(lambda found: _decode(found[0], image_size, background), chunk)
            for row, (image, transparent) in enumerate(images, start):
                count += transparent
                if isinstance(image, bytes):
                    file.write(image)
                elif skip_bad_images:
                    bad.add(row)
                else:
                    raise unreadable(files[row][0], image)
    labels = {label for row, (_, label) in enumerate(files) if row not in bad}
    _raise_if_empty(root / part, classes, labels, "none of its images can be read")
    return bad, count


def unreadable(path: Path, error: Exception) -> UserError:
    """What is said of an image that cannot be decoded."""
    reason = str(error) or type(error).__name__
    return UserError(f"{path}: cannot read the image: {reason}; replace it, or use --skip-bad-images")


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


def centre(image: Image.Image, size: int) -> Image.Image:
    """Its largest centred square, resized."""
    # Crops before it resizes: a long thin image does not become a huge one on the way.
    return ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)


def _decode(path: Path, size: int, background: Background) -> tuple[bytes | Exception, bool]:
    """The pixels (3, size, size), or why there are none; and whether there was transparency."""
    try:
        with open_rgb(path, background) as (image, transparent):
            return np.asarray(centre(image, size)).transpose(2, 0, 1).tobytes(), transparent
    except Exception as error:  # decoders raise nearly everything: OSError, SyntaxError, struct.error, ...
        return error, False


def _read_about(folder: Path, files: dict[str, Listed]) -> _About | None:
    """What a cached folder holds; None where there is none, or where it is not what was written."""
    try:
        about = _About.model_validate_json((folder / "about.json").read_bytes())
        return about if about == about.checked() and about.content == _content(folder, files) else None
    except (OSError, ValidationError):
        return None


def _content(folder: Path, files: dict[str, Listed]) -> str:
    return content_digest([folder / f"{part}-images.bin" for part in files], folder, folder / "digest.json")


def _open_images(folder: Path, part: str, rows: int, size: int) -> UInt8[Tensor, "{rows} 3 {size} {size}"]:
    return tensor_of(np.memmap(folder / f"{part}-images.bin", np.uint8, mode="r", shape=(rows, 3, size, size)))
