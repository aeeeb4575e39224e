"""Folders of images, `train/<class>/*` and optionally `val/<class>/*`: decoded once, then memory-mapped."""

import hashlib
import itertools
import json
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset

from vaenas.data.cache import new_folder, tensor_of
from vaenas.data.images import ImageData, ImageSet, pixel_statistics
from vaenas.errors import UserError

SIZE = 64  # where the user asks for none
MAX_SIZE = 1024
_DECODING = "1"  # part of the cache's key: raise it when the same files give other pixels
_CHUNK = 128  # images decoded before they are written

Listed = list[tuple[Path, int]]  # a file and its label


def load_folder(root: Path, image_size: int, skip_bad_images: bool, cache: Path) -> ImageData:
    """RGB images of `root/train/<class>/`, and as the test set those of `root/val/<class>/` where there are any.

    Files are found as torchvision's `ImageFolder` finds them. Each image's largest centred square is resized to
    `image_size` pixels. The first load decodes the files into `cache`; a load of the same files finds them there.

    `skip_bad_images`: leave out what cannot be decoded, and list it in `ImageData.skipped`.
    Raises `UserError` for an unreadable image (else), a folder that is not laid out so, fewer than two classes, an
    empty class, other classes in `val` than in `train`, a full disk.
    """
    root, classes, files = list_folder(root, image_size)
    train = files["train"]
    key = _key(root, files, image_size, skip_bad_images)
    target = cache / "folders" / key
    if not target.is_dir():
        with new_folder(target) as folder:
            skipped = {
                part: _decode_all(folder, part, root, classes, listed, image_size, skip_bad_images)
                for part, listed in files.items()
            }
            rows = len(train) - len(skipped["train"])
            mean, std = pixel_statistics(_open_images(folder, "train", rows, image_size))
            about = {
                "source": str(root),
                "image_size": image_size,
                "mean": mean,
                "std": std,
                "skipped": [*itertools.chain(*skipped.values())],
            }
            (folder / "about.json").write_text(json.dumps(about))
    return _from_cache(target, root.name, classes, tuple(files))


def list_folder(root: Path, image_size: int) -> tuple[Path, tuple[str, ...], dict[str, Listed]]:
    """The folder, its classes, and the files of "train" and, where there is one, of "val".

    Raises what `load_folder` raises before it opens an image.
    """
    if not 1 <= image_size <= MAX_SIZE:
        raise UserError(f"image size {image_size}: choose from 1 to {MAX_SIZE} pixels")
    root = root.expanduser().resolve()
    classes, train = _list_images(root / "train")
    files = {"train": train}
    if (root / "val").is_dir():
        val_classes, files["val"] = _list_images(root / "val")
        if val_classes != classes:
            extra, missing = sorted(set(val_classes) - set(classes)), sorted(set(classes) - set(val_classes))
            message = f"{root / 'val'}: its classes differ from those of train: "
            raise UserError(message + f"extra {extra}, missing {missing}; make them the same, or remove val")
    return root, classes, files


def _list_images(folder: Path) -> tuple[tuple[str, ...], Listed]:
    """The classes, sorted, and each image's path and label, class by class."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; put the images into {folder}/<class>/")
    try:
        classes, indices = find_classes(str(folder))
    except FileNotFoundError:
        classes, indices = [], {}
    except OSError as error:
        raise UserError(f"{folder}: cannot read the folder: {error.strerror}") from error
    if len(classes) < 2:
        raise UserError(f"{folder}: {len(classes)} class folders, at least 2 are needed: {folder}/<class>/<image>")
    found = make_dataset(str(folder), indices, extensions=IMG_EXTENSIONS, allow_empty=True)
    _raise_if_empty(folder, classes, {label for _, label in found}, f"it has no images ({' '.join(IMG_EXTENSIONS)})")
    return tuple(classes), [(Path(path), label) for path, label in found]


def _raise_if_empty(folder: Path, classes: list[str] | tuple[str, ...], labels: set[int], why: str) -> None:
    for label, name in enumerate(classes):
        if label not in labels:
            raise UserError(f"{folder / name}: {why}; add some, or remove the class")


def _key(root: Path, files: dict[str, Listed], image_size: int, skip_bad_images: bool) -> str:
    """A name for the decoded images that changes with whatever can change them."""
    digest = hashlib.sha256(json.dumps([_DECODING, str(root), image_size, skip_bad_images]).encode())
    for path, _ in itertools.chain(*files.values()):
        try:
            stat = path.stat()
            facts = [stat.st_size, stat.st_mtime_ns]
        except OSError:  # a dangling link, for example: decoding will name it
            facts = []
        digest.update(json.dumps([str(path.relative_to(root)), *facts]).encode())
    return digest.hexdigest()


def _decode_all(
    folder: Path,
    part: str,
    root: Path,
    classes: tuple[str, ...],
    files: Listed,
    image_size: int,
    skip_bad_images: bool,
) -> list[str]:
    """Write `<part>-images.bin` (raw uint8) and `<part>-labels.npy` into `folder`; return what was left out."""
    labels: list[int] = []
    skipped: list[str] = []
    # Written as a file, not as a memory map: a full disk is then an error, where a map would kill the process.
    with (
        (folder / f"{part}-images.bin").open("wb") as file,
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
        warnings.catch_warnings(),
    ):
        # Odd metadata is no reason to stop, and images that are too large are refused by _decode.
        warnings.filterwarnings("ignore", module="PIL")
        for start in range(0, len(files), _CHUNK):
            chunk = files[start : start + _CHUNK]
            images = pool.map(lambda found: _decode(found[0], image_size), chunk)
            for (path, label), image in zip(chunk, images, strict=True):
                if isinstance(image, bytes):
                    file.write(image)
                    labels.append(label)
                elif skip_bad_images:
                    skipped.append(str(path.relative_to(root)))
                else:
                    raise unreadable(path, image)
    _raise_if_empty(root / part, classes, set(labels), "none of its images can be read")
    np.save(folder / f"{part}-labels.npy", np.array(labels, np.int64), allow_pickle=False)
    return skipped


def unreadable(path: Path, error: Exception) -> UserError:
    """What is said of an image that cannot be decoded."""
    reason = str(error) or type(error).__name__
    return UserError(f"{path}: cannot read the image: {reason}; mend it, or use --skip-bad-images")


def open_rgb(path: Path | BytesIO) -> Image.Image:
    """The whole image, turned as its EXIF data say; raises nearly anything where there is none."""
    with Image.open(path) as image:
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and image.width * image.height > limit:
            raise ValueError(f"{image.width}×{image.height} is more than {limit} pixels")
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"mode {image.mode} has more than 8 bits a channel")
        return ImageOps.exif_transpose(image).convert("RGB")


def centre(image: Image.Image, size: int) -> Image.Image:
    """Its largest centred square, resized."""
    # Crops before it resizes: a long thin image does not become a huge one on the way.
    return ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)


def _decode(path: Path, size: int) -> bytes | Exception:
    """The pixels (3, size, size), or why there are none."""
    try:
        return np.asarray(centre(open_rgb(path), size)).transpose(2, 0, 1).tobytes()
    except Exception as error:  # decoders raise nearly everything: OSError, SyntaxError, struct.error, ...
        return error


def _from_cache(folder: Path, name: str, classes: tuple[str, ...], parts: tuple[str, ...]) -> ImageData:
    try:
        about = json.loads((folder / "about.json").read_text())
        sets = []
        for part in parts:
            labels = np.load(folder / f"{part}-labels.npy", allow_pickle=False)
            images = _open_images(folder, part, len(labels), about["image_size"])
            sets.append(ImageSet((images,), torch.from_numpy(labels), classes))
        return ImageData(
            name=name,
            train=sets[0],
            test=sets[1] if len(sets) == 2 else None,
            mean=tuple(about["mean"]),
            std=tuple(about["std"]),
            skipped=tuple(about["skipped"]),
        )
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise UserError(f"{folder}: the cached images are damaged ({error}); delete this folder") from error


def _open_images(folder: Path, part: str, rows: int, size: int) -> UInt8[Tensor, "{rows} 3 {size} {size}"]:
    path = folder / f"{part}-images.bin"
    if path.stat().st_size != rows * 3 * size * size:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes, not {rows * 3 * size * size}")
    return tensor_of(np.memmap(path, np.uint8, mode="r", shape=(rows, 3, size, size)))
