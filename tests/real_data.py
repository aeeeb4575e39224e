"""Real data, unpacked once into a cache outside the repository."""

import os
import tarfile
from pathlib import Path

import pytest

from vaenas.bench.import_table import import_table
from vaenas.data.cache import file_digest, new_folder

SHARED = Path(os.environ.get("VAENAS_SHARED_DATA") or Path(__file__).parents[1] / "../shared/data").resolve()
CACHE = Path("~/.cache/vaenas-tests").expanduser()


def _source(name: str) -> Path:
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"needs {path}: name its folder in VAENAS_SHARED_DATA")
    return path


@pytest.fixture(scope="session")
def test_cache() -> Path:
    """A cache folder that outlives the tests."""
    return CACHE


@pytest.fixture(scope="session")
def cifar10_archive() -> Path:
    """All of CIFAR-10."""
    return _source("cifar-10-batches-bin.tar.xz")


@pytest.fixture(scope="session")
def imagenet_mini() -> Path:
    """A folder that holds `imagenet-mini` (train, val) and `imagenet-native` (train) with real JPEGs."""
    archive = _source("imagenet-mini.tar")
    target = CACHE / file_digest(archive, "sha256")
    if not target.is_dir():
        with new_folder(target) as folder, tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    return target


@pytest.fixture(scope="session")
def cells_parquet() -> Path:
    """All cells of NAS-Bench-101, 30,001 of them labelled."""
    return _source("nas-bench-101/cells.parquet")


@pytest.fixture(scope="session")
def nasbench201_csv() -> Path:
    """All cells of NAS-Bench-201."""
    return _source("nas-bench-201/cells.csv")


@pytest.fixture(scope="session")
def macro_json() -> Path:
    """All networks of NAS-Bench-Macro."""
    return _source("nas-bench-macro/nas-bench-macro_cifar10.json")


def imported(source: Path, factory: pytest.TempPathFactory) -> Path:
    """The table of a source."""
    path = factory.mktemp("tables") / "table.safetensors"
    import_table(source).save(path)
    return path


@pytest.fixture(scope="session")
def macro_table(macro_json: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table of `macro_json`."""
    return imported(macro_json, tmp_path_factory)
