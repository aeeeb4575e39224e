"""Tables imported from the real sources, once a session."""

from pathlib import Path

import pytest

from tests.real_data import imported


@pytest.fixture(scope="session")
def nasbench101_table(cells_parquet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table of `cells_parquet`."""
    return imported(cells_parquet, tmp_path_factory)


@pytest.fixture(scope="session")
def nasbench201_table(nasbench201_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table of `nasbench201_csv`, CIFAR-10."""
    return imported(nasbench201_csv, tmp_path_factory)
