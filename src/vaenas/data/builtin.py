"""The set that comes with the package: 12,000 images of Fashion-MNIST, balanced (tools/make_builtin.py made it)."""

import hashlib
import io
from pathlib import Path

import numpy as np
import torch

from vaenas.data.images import ImageData, ImageSet, pixel_statistics
from vaenas.errors import UserError

CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
FILE = Path(__file__).parent / "builtin" / "fashion-mnist.npz"
SHA256 = "078897b5400d55634807c08a3a63e8c160874ce9dadf3acab0a198e060eb2794"


def load_builtin() -> ImageData:
    """10,000 training and 2,000 test images, 28×28, 1 channel, 10 classes (Xiao et al. 2017, MIT licence).

    Raises `UserError` where the file is missing or damaged.
    """
    try:
        content = FILE.read_bytes()
    except OSError as error:
        raise UserError(f"{FILE}: cannot read the built-in images: {error.strerror}; reinstall vaenas") from error
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise UserError(f"{FILE}: sha256 is {found}, not {SHA256}: the file is damaged; reinstall vaenas")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    train, test = (
        ImageSet(tensors[f"{part}_images"][:, None], tensors[f"{part}_labels"].long(), CLASSES)
        for part in ("train", "test")
    )
    return ImageData("builtin", train, test, *pixel_statistics(train.images), lambda: SHA256)
