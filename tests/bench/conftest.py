"""Tables imported from the real sources, once a session."""

from pathlib import Path

import pytest

from vaenas.bench.import_table import import_table


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
