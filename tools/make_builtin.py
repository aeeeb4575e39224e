"""Make src/vaenas/data/builtin/fashion-mnist.npz from Debian's package `dataset-fashion-mnist`.

    python tools/make_builtin.py

Needs apt-get, dpkg and a network. 1,000 training and 200 test images of each of the ten classes, drawn without
replacement by `numpy.random.default_rng(2017)` and kept in the original's order. Prints the sha256 that
src/vaenas/data/builtin.py expects (the bytes can differ with another zlib; the arrays cannot).
"""

import gzip
import hashlib
import subprocess
import tempfile
from pathlib import Path

import numpy as np

SEED = 2017
TARGET = Path(__file__).parents[1] / "src/vaenas/data/builtin/fashion-mnist.npz"


def read(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The images (n, 28, 28) and labels (n,) of the "train" or "t10k" files, uint8; the headers are 16 and 8 bytes."""
    images = gzip.decompress((folder / f"{name}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / f"{name}-labels-idx1-ubyte.gz").read_bytes())
    return np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28), np.frombuffer(labels, np.uint8, offset=8)


def choose(labels: np.ndarray, per_class: int, rng: np.random.Generator) -> np.ndarray:
    """Rows with `per_class` of each class, in ascending order."""
    rows = [rng.choice(np.flatnonzero(labels == c), per_class, replace=False) for c in range(10)]
    return np.sort(np.concatenate(rows))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["apt-get", "download", "dataset-fashion-mnist"], cwd=folder, check=True)
        (package,) = Path(folder).glob("*.deb")
        subprocess.run(["dpkg", "-x", package, folder], check=True)
        source = Path(folder) / "usr/share/datasets/fashion-mnist"
        train_images, train_labels = read(source, "train")
        test_images, test_labels = read(source, "t10k")
    rng = np.random.default_rng(SEED)
    train, test = choose(train_labels, 1000, rng), choose(test_labels, 200, rng)
    np.savez_compressed(
        TARGET,
        train_images=train_images[train],
        train_labels=train_labels[train],
        test_images=test_images[test],
        test_labels=test_labels[test],
    )
    print(hashlib.sha256(TARGET.read_bytes()).hexdigest(), TARGET.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
