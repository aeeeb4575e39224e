"""Tables imported from the real sources, once a session."""

from pathlib import Path

import pytest

from tests.real_data import SHARED
from vaenas.bench.import_table import import_table


def _source(name: str) -> Path:
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"needs {path}: name its folder in VAENAS_SHARED_DATA")
    return path


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


def _imported(source: Path, factory: pytest.TempPathFactory) -> Path:
    path = factory.mktemp("tables") / "table.safetensors"
    import_table(source).save(path)
    return path


@pytest.fixture(scope="session")
def nasbench101_table(cells_parquet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table of `cells_parquet`."""
    return _imported(cells_parquet, tmp_path_factory)


@pytest.fixture(scope="session")
def nasbench201_table(nasbench201_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table of `nasbench201_csv`, CIFAR-10."""
    return _imported(nasbench201_csv, tmp_path_factory)


@pytest.fixture(scope="session")
def macro_table(macro_json: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table of `macro_json`."""
    return _imported(macro_json, tmp_path_factory)
