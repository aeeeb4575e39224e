"""A search that has ended, made once."""

from pathlib import Path

import pytest

from tests.runs.command import TINY, call, make_pictures


@pytest.fixture(scope="session")
def finished_search(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("training")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAENAS_CACHE", str(root / "cache"))
        assert call("search", "--data", make_pictures(root / "pictures"), "--output", root / "search", *TINY) == 0
    return root / "search"
