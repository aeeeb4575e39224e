"""A fixed sample of hostile files; `python -m tests.robustness.fuzz` tries any number of them."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.robustness.fuzz import FORMATS, outcome


@pytest.mark.parametrize("name", FORMATS)
def test_each_seed_is_valid(name: str, tmp_path: Path) -> None:
    """Else everything made of it would be refused for one reason."""
    FORMATS[name].load(FORMATS[name].seed(tmp_path))


@given(st.sampled_from([*FORMATS]), st.integers(0, 2**32 - 1))
@settings(
    max_examples=2000, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
)  # fmt: skip
def test_hostile_files_are_read_or_refused_in_one_line(name: str, number: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found, message = outcome(name, number, Path(folder))
    assert found != "failed", message
