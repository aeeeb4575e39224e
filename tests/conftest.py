"""Fixtures for all rooms. Shapes and types of every annotated function are checked at run time."""

import sys

# Before anything of vaenas is imported: jaxtyping wraps what it finds annotated, beartype checks it.
import jaxtyping
import pytest
import torch

import tests.checked  # noqa: F401  # the hook looks it up by name

if not any(name.startswith("vaenas.") for name in sys.modules):
    jaxtyping.install_import_hook("vaenas", "tests.checked.checked")

pytest_plugins = ["tests.real_data"]  # loaded after the hook

torch.set_num_threads(1)  # two test processes share two cores


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(2020)


# The longest first, so that no worker is left with one of them at the end.
LONG = (
    "robustness/", "runs/test_resume", "runs/test_stop", "runs/test_combinations", "runs/test_processes",
    "runs/test_bad_input",
    "integrations/", "runs/test_memory", "search/", "test_cells", "runs/test_latency", "training/", "samplers/",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        return next((i for i, name in enumerate(LONG) if name in item.nodeid), len(LONG))

    items.sort(key=place)
