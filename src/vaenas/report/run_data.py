"""Reads a run directory into plain data, and names the file, the line and the mend where it cannot."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vaenas.errors import UserError

Record = dict[str, Any]
Check = tuple[Callable[[Any], bool], str]  # a test, and the words for what passes it

FIXED_SAMPLERS = ("uniform", "fair")  # these never learn, so their runs have no update records
OF_WEIGHTS = ("multinomial", "full")  # softmax(w) takes the sampler's place: no update records either


@dataclass(frozen=True)
class RunData:
    """What a run directory holds. Lists are in the order of the file; `None` is a file not written yet.

    Accuracies and scores are shares in [0, 1], FLOPs are counts, entropy and KL are in nats.
    """

    folder: Path
    config: Record
    train: list[Record]
    updates: list[Record]
    generations: list[Record]
    weights: list[Record]  # Algorithm 3 alone: softmax(w) and the network derived from it
    comparison: Record | None  # the last one: learned against uniform draws
    result: Record | None
    drawing: Record | None
    torn: bool  # the last line of metrics.jsonl was cut off while it was being written
    against: tuple["RunData", ...] = ()  # other runs of Algorithm 3, to compare the diversity with

    @property
    def fixed_sampler(self) -> bool:
        """Whether the run's sampler never learns (uniform or fair)."""
        return self.config.get("sampler") in FIXED_SAMPLERS

    @property
    def gradient(self) -> bool:
        """Whether the run is of Algorithm 3, which has no evolution."""
        return self.config.get("method") == "gradient"

    @property
    def measure(self) -> str:
        """What the supernet's scores are, in words."""
        name = str(self.config.get("rank_by", "accuracy"))
        return "quadratic score" if name == "quadratic" else name

    @property
    def operations(self) -> list[Record]:
        """The operations, `{"symbol", "name"}` each; numbered ones where `drawing.json` does not name them."""
        named = list(self.drawing["operations"]) if self.drawing else []
        widest = max((len(row) for u in self.updates for row in u["probabilities"]), default=0)
        return named + [{"symbol": str(i), "name": f"Operation {i}"} for i in range(len(named), widest)]


def read_run(folder: Path) -> RunData:
    """Reads `config.yaml`, `metrics.jsonl` and, if they are there, `result.json` and `drawing.json`.

    Records of one kind and step that were written twice (a run resumed from a checkpoint older than its last line)
    count once, as they were written last.

    Raises:
        UserError: the folder or one of the first two files is missing, or a file does not follow the contract.
    """
    if not folder.is_dir():
        raise UserError(f"no run folder at {folder}: give the folder that a search wrote, the one with metrics.jsonl")
    for name in ("config.yaml", "metrics.jsonl"):
        if not (folder / name).is_file():
            raise UserError(f"{folder} has no {name}: give the folder that a search wrote, or start the search first")
    result = _read_json(folder / "result.json", lambda content, where: check(content, RESULT, where))
    drawing = _read_json(folder / "drawing.json", check_drawing)
    kinds, torn = _read_metrics(folder / "metrics.jsonl", finished=result is not None)
    return RunData(
        folder=folder,
        config=_read_config(folder / "config.yaml"),
        train=kinds["train"],
        updates=kinds["update"],
        generations=kinds["generation"],
        weights=kinds["weights"],
        comparison=kinds["comparison"][-1] if kinds["comparison"] else None,
        result=result,
        drawing=drawing,
        torn=torn,
    )


# What the files promise. `loss` and `kl` may be NaN or infinite: a diverged run still deserves a report.


def _is_number(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool)


def _is_count(x: Any) -> bool:
    return isinstance(x, int) and not isinstance(x, bool) and x >= 0


def _is_finite(x: Any) -> bool:
    return _is_number(x) and math.isfinite(x)


def _is_share(x: Any) -> bool:
    return _is_number(x) and -1e-6 <= x <= 1 + 1e-6  # a softmax in float32 may sum to a little more than 1


def _list_of(test: Callable[[Any], bool], words: str) -> Check:
    return lambda x: isinstance(x, list) and all(test(item) for item in x), f"a list of {words}"


def _object(checks: Mapping[str, Check]) -> Callable[[Any], bool]:
    return lambda x: isinstance(x, dict) and all(key in x and check[0](x[key]) for key, check in checks.items())


def _optional(check: Check) -> Check:
    return lambda x: x is None or check[0](x), f"{check[1]} or null"


NUMBER: Check = _is_number, "a number"
FINITE: Check = _is_finite, "a finite number"
COUNT: Check = _is_count, "an integer of at least 0"
SHARE: Check = _is_share, "a number in [0, 1]"
TEXT: Check = lambda x: isinstance(x, str), "text"
SHARES = _list_of(_is_share, "numbers in [0, 1]")
TEXTS = _list_of(lambda x: isinstance(x, str), "texts")
ARCHITECTURE: dict[str, Check] = {"code": TEXT, "score": SHARE, "worth": FINITE, "flops": COUNT, "params": COUNT}
SUMMARY: dict[str, Check] = {"mean": SHARE, "std": FINITE, "n": COUNT}

METRICS: dict[str, dict[str, Check]] = {
    "train": {
        "step": COUNT,
        "epoch": FINITE,
        "loss": NUMBER,
        "accuracy": SHARE,
        "epsilon": _optional(SHARE),  # of Algorithm 2
        "search_loss": _optional(NUMBER),  # of Algorithm 3
    },
    "weights": {
        "step": COUNT,
        "epoch": FINITE,
        "entropy_of_weights": _list_of(_is_finite, "finite numbers"),
        "distinct_so_far": COUNT,
        "parameter_free": SHARE,
        "params": COUNT,
    },
    "update": {
        "step": COUNT,
        "epoch": FINITE,
        "scores": SHARES,
        "learned": _list_of(lambda x: isinstance(x, bool), "true or false"),
        "entropy": FINITE,
        "kl": _optional(NUMBER),  # this and the next two: the VAE alone
        "active_units": _optional(COUNT),
        "reconstruction": _optional(SHARE),
        "probabilities": _list_of(SHARES[0], "rows of numbers in [0, 1]"),
    },
    "generation": {"step": COUNT, "generation": COUNT, "best": SHARE, "mean": SHARE},
    "comparison": {"step": COUNT, "sampler": SHARES, "uniform": SHARES},
}
BY_DRAWS: Check = (
    lambda x: isinstance(x, dict) and all(map(_is_share, x.values())), "an object of shares by number of draws"
)  # fmt: skip
TRUTH: dict[str, Check] = {
    "table": TEXT,
    "measured": TEXT,
    "architectures": COUNT,
    "optimum": SHARE,
    "mean": SHARE,
    "uniform_best_of": BY_DRAWS,
    "best": _optional((_object({"accuracy": SHARE, "rank": COUNT}), "an object with accuracy and rank")),
    "kendall": _optional(FINITE),
    "spearman": _optional(FINITE),
    "kendall_top": _optional(FINITE),
    "sample": (_object({"scores": SHARES, "truth": SHARES}), "an object with scores and truth"),
    "draws": _list_of(_object({"epoch": FINITE, "mean": _optional(SHARE)}), "objects with epoch and mean"),
    "best_of": _optional(BY_DRAWS),
}
RESULT: dict[str, Check] = {
    "best": (_object(ARCHITECTURE), "an object with code, score in [0, 1], worth, flops and params"),
    "pareto": _list_of(_object(ARCHITECTURE), "objects with code, score in [0, 1], worth, flops and params"),
    "evaluated": COUNT,
    "evaluations": _list_of(
        _object({"score": SHARE, "worth": FINITE, "flops": COUNT}), "objects with score in [0, 1], worth and flops"
    ),
    "draws": _optional(
        (
            _object({"sampler": (_object(SUMMARY), ""), "uniform": (_object(SUMMARY), "")}),
            "an object with mean, std and n for both sampler and uniform",
        )
    ),
    "seconds": FINITE,
    "version": TEXT,
    "truth": _optional((_object(TRUTH), f"an object with {', '.join(TRUTH)}")),
}
SLOT: dict[str, Check] = {"slot": COUNT, "operation": COUNT}
OPERATION_NAMES = _list_of(_object({"symbol": TEXT, "name": TEXT}), "objects with symbol and name")
SEQUENCE: dict[str, Check] = {
    "title": TEXT,
    "input": TEXT,
    "before": TEXTS,
    "after": TEXTS,
    "operations": OPERATION_NAMES,
    "groups": _list_of(
        _object({"name": TEXT, "output": TEXT, "slots": _list_of(_object(SLOT), "")}),
        "objects with name, output and slots (slot and operation each)",
    ),
}


def _is_node(x: Any) -> bool:
    return _object({"text": TEXT})(x) or _object(SLOT)(x)


def _is_edge(x: Any) -> bool:
    return isinstance(x, list) and len(x) == 2 and all(map(_is_count, x))


CELLS: dict[str, Check] = {
    "title": TEXT,
    "operations": OPERATION_NAMES,
    "cells": _list_of(
        _object({"name": TEXT, "nodes": _list_of(_is_node, ""), "edges": _list_of(_is_edge, "")}),
        "objects with name, nodes (text, or slot and operation) and edges (pairs of nodes)",
    ),
}


def check(record: Any, checks: Mapping[str, Check], where: str) -> Record:
    """Gives `record` back if it is a mapping that passes all `checks`; `where` opens the message if not.

    Raises:
        UserError: names `where`, the key, its value and what it must be.
    """
    if not isinstance(record, dict):
        raise UserError(f"{where}: {_short(record)} is not a JSON object; mend or remove it")
    for key, (test, words) in checks.items():
        if key not in record:
            if test(None):  # an optional key
                continue
            raise UserError(f"{where}: {key!r} is missing, must be {words}; mend or remove it")
        if not test(record[key]):
            raise UserError(f"{where}: {key!r} is {_short(record[key])}, must be {words}; mend or remove it")
    return record


def check_drawing(drawing: Any, where: str) -> Record:
    """Gives `drawing` back if it follows the contract of `drawing.json`.

    Raises:
        UserError: names the key, its value and what it must be.
    """
    cells = isinstance(drawing, dict) and "cells" in drawing
    check(drawing, CELLS if cells else SEQUENCE, where)
    most = len(drawing["operations"]) - 1
    for slot in drawn_slots(drawing):
        if slot["operation"] > most:
            raise UserError(f"{where}: slot {slot['slot']} has operation {slot['operation']}, must be at most {most}")
    for cell in drawing["cells"] if cells else []:
        for source, target in cell["edges"]:
            if not 0 <= source < target < len(cell["nodes"]):
                raise UserError(
                    f"{where}: cell {cell['name']!r} has an edge from node {source} to {target}; edges lead "
                    f"from a node to a later one of {len(cell['nodes'])}"
                )
    return drawing


def drawn_slots(drawing: Record) -> list[Record]:
    """The slots that a drawing shows, `{"slot", "operation"}` each."""
    if "cells" in drawing:
        return [node for cell in drawing["cells"] for node in cell["nodes"] if "slot" in node]
    return [slot for group in drawing["groups"] for slot in group["slots"]]


def _short(value: Any) -> str:
    words = repr(value)
    return words if len(words) <= 60 else words[:57] + "..."


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error}); mend or remove it") from error


def _read_config(path: Path) -> Record:
    try:
        config = yaml.safe_load(_read_text(path))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line}: not valid YAML; mend the line") from error
    if not isinstance(config, dict):
        raise UserError(f"{path}: must hold `name: value` lines, holds {_short(config)}; mend the file")
    limit = config.get("max_flops")
    if not (limit is None or _is_finite(limit)):
        raise UserError(f"{path}: max_flops is {_short(limit)}, must be a number of FLOPs or null; mend the line")
    return config


def _read_json(path: Path, checked: Callable[[Any, str], Record]) -> Record | None:
    if not path.is_file():
        return None
    try:
        content = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {error.lineno}: not valid JSON ({error.msg}); mend or remove the file"
        ) from error
    return checked(content, str(path))


def _read_metrics(path: Path, finished: bool) -> tuple[dict[str, list[Record]], bool]:
    text = _read_text(path)
    lines = text.split("\n")
    latest: dict[tuple[str, Any, Any], Record] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            # A line without its line break is one being written now, or cut by a kill: not the user's mistake.
            if number == len(lines) and not finished:
                return _by_kind(latest), True
            raise UserError(f"{where}: not valid JSON ({error.msg}); mend or remove the line") from error
        kind = record.get("kind") if isinstance(record, dict) else None
        record = check(record, METRICS.get(kind, {}) if isinstance(kind, str) else {"kind": TEXT}, where)
        if kind == "update" and len(record["learned"]) != len(record["scores"]):
            lengths = f"{len(record['learned'])} values for {len(record['scores'])} scores"
            raise UserError(f"{where}: 'learned' has {lengths}, must have one for each; mend or remove the line")
        latest[record["kind"], record.get("step"), record.get("generation")] = record
    return _by_kind(latest), False


def _by_kind(latest: Mapping[tuple[str, Any, Any], Record]) -> dict[str, list[Record]]:
    kinds: dict[str, list[Record]] = {kind: [] for kind in METRICS}
    for (kind, _, _), record in latest.items():
        kinds.setdefault(kind, []).append(record)  # other kinds are kept apart, and no figure reads them
    return kinds
