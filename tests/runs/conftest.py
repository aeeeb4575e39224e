"""Pictures and a finished run, made once."""

from pathlib import Path

import pytest

from tests.runs.command import TINY, call, make_pictures


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No test reads or writes the user's cache."""
    path = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAENAS_CACHE", str(path))
        yield path


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pictures(tmp_path_factory.mktemp("data") / "pictures")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """A whole search on the pictures. Copy it before you change it."""
    path = tmp_path_factory.mktemp("runs") / "finished"
    assert call("search", "--data", pictures, "--output", path, *TINY) == 0
    return path
