"""One door to all image sources."""

from pathlib import Path

from vaenas.data.builtin import load_builtin
from vaenas.data.cache import cache_dir
from vaenas.data.cifar10 import load_cifar10
from vaenas.data.folder import load_folder
from vaenas.data.images import ImageData, smaller
from vaenas.data.settings import DataSettings
from vaenas.errors import UserError


def load(settings: DataSettings) -> ImageData:
    """The images that the settings name, through the cache in `cache_dir()`.

    "builtin" and "cifar10" have 28 and 32 pixels; fewer are averages over areas (`smaller`).

    Raises `UserError` where a setting does not fit the source, and what the sources raise.
    """
    source, size = settings.source, settings.image_size
    root = Path(settings.root).expanduser() if settings.root else None
    if root is not None and source != "cifar10":
        raise UserError(f"root {root}: only the source cifar10 has a root; leave it out for {source}")
    if source in ("builtin", "cifar10"):
        own = 28 if source == "builtin" else 32
        if size is not None and not 1 <= size <= own:
            raise UserError(f"image size {size}: {source} has {own} pixels; choose from 1 to {own}, or use a folder")
        data = load_builtin() if source == "builtin" else load_cifar10(root, settings.download, cache_dir())
        return data if size in (None, own) else smaller(data, size)
    if source and Path(source).expanduser().is_dir():
        return load_folder(settings, cache_dir())
    raise UserError(f"data source {source!r}: choose builtin, cifar10, or a folder with train/<class>/<image>")
