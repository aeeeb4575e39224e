"""What experiments that call `vaenas` share: runs that go on where they were, two at a time, one thread each."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from vaenas.documents import dotted
from vaenas.runs.config import SearchConfig
from vaenas.runs.settings import make, nested, option, without_effect


def call(command: str, run: Path, settings: dict[str, Any], *words: str) -> dict[str, Any]:
    """A run to its end, begun or gone on with; gives its result.json. A run of other settings stops the experiment.

    `settings`: by their paths, as {"supernet.epochs": 20}.
    """
    config, given = run / "config.yaml", with_effect(settings) if command == "search" else settings
    if config.exists():
        begun = dotted(yaml.safe_load(config.read_text()))
        for path, value in given.items():
            if begun.get(path) != (str(value) if isinstance(value, Path) else value):
                raise SystemExit(f"{run} was begun with {path} {begun.get(path)}, not {value}: move it away")
    if not (run / "result.json").exists():
        arguments = ["--resume", str(run)] if config.exists() else [*options(given), "--output", str(run), *words]
        with run.with_suffix(".log").open("ab") as log:
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            called = [sys.executable, "-m", "vaenas", command, *arguments]
            if subprocess.run(called, stdout=log, stderr=log, env=environment).returncode:
                raise SystemExit(f"a run failed; see {log.name}")
    return json.loads((run / "result.json").read_text())


def options(settings: dict[str, Any]) -> list[str]:
    """As the command line takes them."""
    words = ([option(path)] if value is True else [option(path), str(value)] for path, value in settings.items())
    return [word for one in words for word in one]


def with_effect(settings: dict[str, Any]) -> dict[str, Any]:
    """Without what has no effect beside the sampler and the method: experiments share the settings of all of them."""
    preset = SearchConfig.presets[settings.get("preset", "recommended")]
    idle = without_effect(SearchConfig.model_validate(nested({**preset, **settings})))
    return {path: value for path, value in settings.items() if path not in idle}


def every_setting(settings: dict[str, Any]) -> dict[str, Any]:
    """Defaults, too, which may change from one version to the next."""
    return {**make(SearchConfig, with_effect(settings)).dotted(), **settings}


def two_at_a_time(jobs: Iterable[Callable[[], object]]) -> None:
    """Each is called; the first error ends it."""
    with ThreadPoolExecutor(2) as pool:
        for job in [pool.submit(job) for job in jobs]:
            job.result()
