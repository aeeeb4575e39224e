"""What experiments that call `vaenas` share: runs that go on where they were, two at a time, one thread each."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from vaenas.runs.config import OF_SEARCH, SearchConfig


def call(command: str, run: Path, settings: dict[str, object], *words: str) -> dict[str, Any]:
    """A run to its end, begun or gone on with; gives its result.json. A run of other settings stops the experiment."""
    config, options = run / "config.yaml", with_effect(settings) if command == "search" else settings
    if config.exists():
        begun = yaml.safe_load(config.read_text())
        for name, value in options.items():
            before = begun.get(name.replace("-", "_"))
            if before != (str(value) if isinstance(value, Path) else value):
                raise SystemExit(f"{run} was begun with {name} {before}, not {value}: move it away")
    if not (run / "result.json").exists():
        arguments = [sys.executable, "-m", "vaenas", command]
        if config.exists():
            arguments += ["--resume", str(run)]
        else:
            for name, value in {**options, "output": run}.items():
                arguments += [f"--{name}"] if value is True else [f"--{name}", str(value)]
            arguments += words
        with run.with_suffix(".log").open("ab") as log:
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            if subprocess.run(arguments, stdout=log, stderr=log, env=environment).returncode:
                raise SystemExit(f"a run failed; see {log.name}")
    return json.loads((run / "result.json").read_text())


def with_effect(settings: dict[str, Any]) -> dict[str, Any]:
    """Without what has no effect beside the sampler and the method: experiments share the settings of all of them."""
    defaults = {name: field.default for name, field in SearchConfig.model_fields.items()}
    config = SimpleNamespace(**{**defaults, **{name.replace("-", "_"): value for name, value in settings.items()}})
    idle = {name for names, is_idle, _ in OF_SEARCH if is_idle(config) for name in names.split()}
    return {name: value for name, value in settings.items() if name.replace("-", "_") not in idle}


def two_at_a_time(jobs: Iterable[Callable[[], object]]) -> None:
    """Each is called; the first error ends it."""
    with ThreadPoolExecutor(2) as pool:
        for job in [pool.submit(job) for job in jobs]:
            job.result()
