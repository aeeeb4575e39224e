"""CIFAR-10, the official binary version (Krizhevsky 2009), checked against its published md5s."""

import http.client
import lzma
import tarfile
import urllib.request
import zlib
from pathlib import Path
from typing import IO

import numpy as np
import torch

from vaenas.data.cache import file_digest, new_folder
from vaenas.data.images import ImageData, ImageSet
from vaenas.errors import UserError

SIZE = 32
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
ROWS = 10_000  # in each file
ROW_BYTES = 1 + 3 * SIZE * SIZE  # the label, then the R, G and B planes
MD5 = {
    "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
}
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
REPLACE = "replace it with the official file from"

_FOLDER = "cifar-10-batches-bin"
_ARCHIVES = ("cifar-10-binary.tar.gz", f"{_FOLDER}.tar.gz", f"{_FOLDER}.tar.xz", f"{_FOLDER}.tar")


def load_cifar10(root: Path | None, download: bool, cache: Path) -> ImageData:
    """50,000 training and 10,000 test images, 32×32, 3 channels, 10 classes.

    `root`: the folder `cifar-10-batches-bin`, a tar of it, or a folder that holds one of them; None = `cache`.
    `download`: fetch the official archive into `cache` where `root` has nothing.
    An archive is unpacked once, into `cache`.

    Raises `UserError` where nothing is found, a file is damaged, or the download fails.
    """
    found = _find(root or cache) or (_find(cache) or _download(cache) if download else None)
    if found is None:
        raise UserError(
            f"no CIFAR-10 in {root or cache}: looked for the folder {_FOLDER} (binary version) and "
            f"{', '.join(_ARCHIVES)}; name the place that has it, or use --data.download to fetch {URL}"
        )
    if found.is_file():
        target = cache / "cifar10" / file_digest(found, "sha256") / _FOLDER
        if not target.is_dir():
            with new_folder(target) as folder, found.open("rb") as file:
                _unpack(file, folder, shown=str(found))
        found = target
    _check(found, shown=str(found))

    def images_of(names: list[str]) -> ImageSet:
        rows = torch.from_numpy(np.concatenate([np.memmap(found / name, np.uint8, "r") for name in names]))
        rows = rows.view(-1, ROW_BYTES)
        return ImageSet(rows[:, 1:].unflatten(1, (3, SIZE, SIZE)), rows[:, 0].long(), CLASSES)

    train, test = images_of([*MD5][:5]), images_of([*MD5][5:])
    return ImageData("cifar10", train, test, MEAN, STD, lambda: " ".join(MD5.values()))


def _find(root: Path) -> Path | None:
    """The folder of batches or the archive that `root` is or holds."""
    if root.is_file():
        return root
    for folder in (root, root / _FOLDER):
        if (folder / next(iter(MD5))).is_file():
            return folder
    return next((root / name for name in _ARCHIVES if (root / name).is_file()), None)


def _unpack(archive: IO[bytes], folder: Path, shown: str) -> None:
    """Copy the batches out of a tar into `folder`, and check them; `shown` is what to call the tar."""
    try:
        # One pass ("r|*"), since seeking in a compressed file starts it over.
        with tarfile.open(fileobj=archive, mode="r|*", bufsize=2**20) as tar:
            for member in tar:
                # Paths in the archive choose nothing but the name: they cannot lead out of the folder.
                name = Path(member.name).name
                content = tar.extractfile(member) if name in MD5 and member.isreg() else None
                if content is not None:
                    (folder / name).write_bytes(content.read(ROWS * ROW_BYTES + 1))
    except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the disk or the network, not of bzip2
            raise
        raise UserError(f"{shown}: not a whole tar archive ({error}); fetch it again from {URL}") from error
    _check(folder, shown)


def _check(folder: Path, shown: str) -> None:
    """Raise `UserError` unless `folder` holds the six files of the binary version; `shown` is what to call it."""
    for name, md5 in MD5.items():
        path = folder / name
        try:
            size = path.stat().st_size
            found = file_digest(path, "md5") if size == ROWS * ROW_BYTES else None
        except OSError as error:
            raise UserError(f"{shown}/{name}: cannot read it: {error.strerror}; {REPLACE} {URL}") from error
        if found != md5:
            what = f"{size} bytes, not {ROWS * ROW_BYTES}" if found is None else f"md5 is {found}, not {md5}"
            raise UserError(f"{shown}/{name}: {what}: the file is damaged; {REPLACE} {URL}")


def _download(cache: Path) -> Path:
    """Unpack the official archive as it arrives."""
    try:
        with new_folder(cache / _FOLDER) as folder, urllib.request.urlopen(URL, timeout=60) as answer:
            _unpack(answer, folder, shown=URL)
    except (OSError, http.client.HTTPException) as error:  # OSError: no network, no answer
        raise UserError(f"cannot fetch {URL}: {error}; fetch it elsewhere and name its place") from error
    return cache / _FOLDER
