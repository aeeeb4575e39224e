"""One door to all image sources."""

from pathlib import Path

from vaenas.data import builtin, cifar10, files, folder
from vaenas.data.cache import cache_dir
from vaenas.data.images import ImageData, smaller
from vaenas.errors import UserError


def load(
    source: str,
    root: Path | None = None,
    image_size: int | None = None,
    download: bool = False,
    skip_bad_images: bool = False,
    cache: Path | None = None,
    workers: int = 0,
    background: folder.Background = "white",
) -> ImageData:
    """Load "builtin", "cifar10", or the folder of images that `source` names (see `load_folder`).

    `root`: where CIFAR-10 is (see `load_cifar10`); None = in the cache. For "cifar10" alone.
    `image_size`: side in pixels; None = the source's own (28, 32; 64 for folders). "builtin" and "cifar10" have no more
    than their own; fewer are averages over areas (`smaller`).
    `download`: fetch CIFAR-10 where it is missing.
    `skip_bad_images`: leave out unreadable images of a folder, and list them in `ImageData.skipped`.
    `cache`: the cache folder; None = `cache_dir()`.
    `workers`: of a folder: 0 = decoded once into the cache; else decoded again for each batch by so many workers.
    `background`: of a folder: what its transparent images are put on.

    Raises `UserError` where one of these does not fit the source, and what the sources raise.
    """
    cache = cache_dir() if cache is None else cache.expanduser()
    if root is not None and source != "cifar10":
        raise UserError(f"root {root}: only the source cifar10 has a root; leave it out for {source}")
    own = {"builtin": builtin.SIZE, "cifar10": cifar10.SIZE}.get(source)
    if own is not None:
        size = own if image_size is None else image_size
        if not 1 <= size <= own:
            raise UserError(f"image size {size}: {source} has {own} pixels; choose from 1 to {own}, or use a folder")
        if source == "builtin":
            data = builtin.load_builtin()
        else:
            data = cifar10.load_cifar10(root.expanduser() if root else None, download, cache)
        return data if size == own else smaller(data, size)
    if source and Path(source).expanduser().is_dir():
        size = folder.SIZE if image_size is None else image_size
        if workers > 0:
            return files.load_files(Path(source), size, skip_bad_images, workers, background, cache)
        return folder.load_folder(Path(source), size, skip_bad_images, background, cache)
    raise UserError(f"data source {source!r}: choose builtin, cifar10, or a folder with train/<class>/<image>")
