"""The small commands that are hurt, how each goes on, and what must be the same at the end."""

import csv
import itertools
import json
import os
import platform
import re
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

SHORT = ["--layers", "5", "--width", "0.125", "--image-size", "16", "--epochs", "1", "--batch-size", "30"]
SHORT += ["--ranking.images", "30", "--ranking.recalibration-images", "0", "--vae.iterations", "2"]
SHORT += ["--update.ranking-size", "4", "--evolution.population", "4", "--log-interval", "1"]
EVOLUTION = ["--evolution.generations", "2", "--evolution.top-k", "2", "--evolution.mutation-prob", "0.5"]
GRADIENT = ["search", "--data", "{shared}/pictures", "--output", "{out}", "--checkpoint-seconds", "0", *SHORT]
SEARCH = [*GRADIENT, *EVOLUTION]
TRAIN = ["--batch-size", "60", "--epochs", "2", "--log-interval", "1", "--checkpoint-seconds", "0"]
FINISH = ["--train-epochs", "1", "--formats", "safetensors"]
CURVES = ["--methods", "random,categorical", "--queries", "10", "--seeds", "2", "--workers", "1"]


@dataclass(frozen=True)
class Command:
    """`begin` and `resume` have {out} for the folder or file that is made, {shared} for what was made before."""

    begin: list[str]
    resume: list[str] | None = None  # else the same again
    cache: str = "{shared}/cache"


def _resumed(begin: list[str], cache: str = Command.cache) -> Command:
    return Command(begin, [begin[0], "--resume", "{out}"], cache)


COMMANDS = {
    "search": _resumed(SEARCH, "{out}-cache"),  # images are decoded anew, too
    "gradient": _resumed([*GRADIENT, "--method", "gradient"]),
    "train": _resumed(["train", "{shared}/found", "--output", "{out}", *TRAIN]),
    "run": _resumed(["run", "--data", "{shared}/pictures", "--output", "{out}", *SHORT, *EVOLUTION, *FINISH]),
    "import": Command(
        ["bench", "import", "{shared}/own.csv", "--output", "{out}.safetensors", "--slots", "a,b,c", "--score", "score"]
    ),
    "curves": Command(["bench", "curves", "--table", "{shared}/table.safetensors", "--output", "{out}", *CURVES]),
}
# What the commands above start from: name in {shared}, and the command that makes it.
BEFORE = {"found": COMMANDS["search"].begin, "table": COMMANDS["import"].begin}


def words(template: list[str], shared: Path, out: Path) -> list[str]:
    return [word.format(shared=shared, out=out) for word in template]


def forked(arguments: list[str], cache: str, log: Path, prepare: Callable[[], None]) -> int:
    """`vaenas ARGUMENTS` in a fork of this process, which has imported everything: its number.

    It writes `log`.out and `log`.err; `prepare` is called in it before the command.
    """
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code: Any = 1
    try:
        for stream, suffix in ((1, ".out"), (2, ".err")):
            os.dup2(os.open(log.with_suffix(suffix), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        os.environ["VAENAS_CACHE"] = cache
        sys.argv[1:] = arguments
        from vaenas.__main__ import main

        prepare()
        main()
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def preload() -> None:
    """Everything that the commands import, so that no fork has to; signals as a terminal's shell leaves them."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # in the background SIGINT is ignored, and stays so
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    import vaenas.bench.curves
    import vaenas.bench.figures
    import vaenas.bench.import_table
    import vaenas.cli
    import vaenas.commands.progress
    import vaenas.evaluation.final
    import vaenas.export.export
    import vaenas.report
    import vaenas.runs.search_run
    import vaenas.training.train_run  # noqa: F401


def make_shared(shared: Path) -> None:
    """Pictures and a CSV of 27 architectures."""
    from tests.runs.command import make_pictures  # imports torch

    make_pictures(shared / "pictures")
    with (shared / "own.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "c", "score"])
        writer.writerows([*slots, sum(slots) ** 2] for slots in itertools.product(range(3), repeat=3))


# Times and places: they differ between any two runs.
_CHANGING = {"seconds", "latency_ms", "images_per_second", "loader_share", "environment"}
_RANDOM = re.compile(r"[0-9a-f]{16}(?=\.tmp)|(?<=tfevents\.).*")  # parts of names
_UNCOMPARED = re.compile(r"(^|/)(checkpoint|scores|report\.html|tensorboard/.*|digest\.json|digests/.*)$")


def ends(folder: Path) -> dict[str, Any]:
    """Every file below `folder`, and of those that must be the same to the bit the content."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = plain_name(path, folder)
        if path.is_dir():
            continue
        if _UNCOMPARED.search(name):
            found[name] = "there"
        elif name.endswith((".json", ".jsonl")):
            lines = path.read_text().splitlines() if name.endswith(".jsonl") else [path.read_text()]
            found[name] = [_lasting(json.loads(line)) for line in lines]
        else:
            found[name] = path.read_bytes()
    return found


def plain_name(path: Path, folder: Path) -> str:
    """Relative, without what is drawn anew for every file."""
    return _RANDOM.sub("*", str(path.relative_to(folder)))


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _lasting(part) for name, part in value.items() if name not in _CHANGING}
    return [_lasting(part) for part in value] if isinstance(value, list) else value


def difference(found: dict[str, Any], expected: dict[str, Any]) -> str | None:
    """What differs, in words; None for the same end."""
    parts = [f"{name} is left over" for name in found.keys() - expected.keys()]
    parts += [f"{name} is missing" for name in expected.keys() - found.keys()]
    parts += [f"{name} differs" for name in found.keys() & expected.keys() if found[name] != expected[name]]
    return ", ".join(sorted(parts)) or None


def complaint(code: int, err: str, expected: tuple[int, ...]) -> str | None:
    """What is wrong with the way a command ended that was not killed: its code, a traceback, not one line for 2."""
    said = [line for line in err.splitlines() if line.startswith("vaenas: ") and "warning" not in line]
    if "Traceback" in err:
        return "a traceback: " + next((line for line in reversed(err.splitlines()) if line.strip()), "")
    if code == 2 and len(said) != 1:
        return f"exit code 2 and {len(said)} lines"
    return None if code in expected else f"exit code {code}"


def machine() -> dict[str, Any]:
    """Where and when figures were taken."""
    return {
        "date": str(date.today()),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}",
        "python": platform.python_version(),
        "torch": version("torch"),
    }
