"""Optuna's own sampler test suite, unchanged."""

from collections.abc import Callable

import pytest
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    RelativeSamplerTestCase,
    SingleOnlySamplerTestCase,
)

from vaenas.integrations.optuna import VAENASSampler


class Defaults:
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return VAENASSampler


class NoStartup:
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: VAENASSampler(n_startup_trials=0)


class TestBasic(Defaults, BasicSamplerTestCase): ...


class TestBasicNoStartup(NoStartup, BasicSamplerTestCase): ...


class TestRelative(Defaults, RelativeSamplerTestCase): ...


class TestRelativeNoStartup(NoStartup, RelativeSamplerTestCase): ...


class TestSingleOnly(Defaults, SingleOnlySamplerTestCase): ...
