"""Whatever the files of a run say: one line of refusal, or a page with no element that is not ours."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

import vaenas
from tests.runs.command import call
from vaenas.commands.show import write_figure
from vaenas.documents import read_json
from vaenas.errors import UserError
from vaenas.records import TrainingResult
from vaenas.report import write_report
from vaenas.report.figures import confusion
from vaenas.runs.directory import FORMAT

from .conftest import MakeRun, make_result
from .test_drawing import CELLS
from .test_report import Page, edit

STRINGS = {
    "script": "<script>alert(1)</script>",
    "image": "\"'><img src=x onerror=alert(1)>",
    "style": "</style></svg><style>*{display:none}",
    "cdata": '"]]>-->',
    "template": "{{7*7}}{% raw %}",
    "mathematics": "$x_",
    "underscore": "_x",
    "control": "\u202ea\0b\x1b[2J\n\ufffe",
    "surrogate": "\ud800",
    "long": 10_000 * "M",
    "glyphs": "\u6f22\U0001f600",
}
REFUSED = ["surrogate", "long"]
TRUTH = {
    "table": "t", "measured": "m", "architectures": 9, "optimum": 0.9, "mean": 0.8, "uniform_best_of": {"1": 0.8},
    "best": {"code": "c", "accuracy": 0.9, "rank": 1}, "kendall": 0.5, "spearman": 0.5, "kendall_top": None,
    "surrogate": {"kendall": None, "spearman": 0.5, "kendall_top": None},
    "sample": {"scores": [0.5], "truth": [0.8]}, "draws": [{"step": 1, "epoch": 1.0, "mean": 0.8, "n": 3}],
    "best_of": {"1": 0.8, "10": 0.9},
}  # fmt: skip


class Elements(Page):
    """Of all pages alike: which elements there are, and no attribute that runs something."""

    def handle_starttag(self, tag, attrs):
        super().handle_starttag(tag, attrs)
        self.tags = getattr(self, "tags", set()) | {tag}
        assert not [name for name, value in attrs if name.startswith("on") or "javascript:" in (value or "")]


def strings_as(content: Any, string: str) -> Any:
    """The same with another text in each place of one."""
    if isinstance(content, dict):
        return {k: v if k == "kind" else strings_as(v, string) for k, v in content.items()}
    if isinstance(content, list):
        return [strings_as(item, string) for item in content]
    return string if isinstance(content, str) else content


@pytest.fixture(scope="module")
def make_small(make_run: MakeRun) -> MakeRun:
    """A run with every string field there is."""

    def make(cells: bool = False, **settings: Any) -> Path:
        run = make_run(
            updates=2, ranking={"metric": "accuracy"}, surrogate={"kind": "none"}, note=["a", {"b": "c"}], **settings
        )
        edit(run / "result.json", truth=TRUTH)
        if cells:
            (run / "drawing.json").write_text(json.dumps(CELLS["nasbench201"][0]))
        return run

    return make


@pytest.fixture(scope="module")
def clean(make_small: MakeRun) -> set[str]:
    return Elements(write_report(make_small())).tags


def put(run: Path, name: str, string: str) -> None:
    """The string in every place of a file of the run, and as a key of its own."""
    file = run / name
    if name == "config.yaml":
        file.write_text(yaml.safe_dump(strings_as(yaml.safe_load(file.read_text()), string) | {string: string}))
        return
    records = [strings_as(json.loads(line), string) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(r | {string: string}) + "\n" for r in records))


FILES = ["config.yaml", "metrics.jsonl", "result.json", "drawing.json"]


TAKEN = [k for k in STRINGS if k not in REFUSED]


@pytest.mark.parametrize(("name", "cells"), [*((name, False) for name in TAKEN), ("image", True)])
def test_hostile_strings_are_text(make_small: MakeRun, clean: set[str], name: str, cells: bool) -> None:
    run, string = make_small(cells=cells), STRINGS[name]
    for file in FILES:
        if file == "config.yaml" and name == "control":  # is refused as YAML
            continue
        put(run, file, string)
    page = Elements(write_report(run))
    assert page.tags <= clean
    assert page.text.count(string) >= 5 or string == STRINGS["control"]
    assert not set(page.source) & set("\0\x1b\u202e\ufffe")


@pytest.mark.parametrize("string", [STRINGS[k] for k in REFUSED], ids=REFUSED)
@pytest.mark.parametrize("name", ["config.yaml", "result.json", "drawing.json"])
def test_strings_that_no_figure_has_room_for(make_small: MakeRun, name: str, string: str) -> None:
    run = make_small()
    put(run, name, string)
    with pytest.raises(UserError, match=name) as error:
        write_report(run)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_the_policy_of_the_page_lets_nothing_in(make_small: MakeRun) -> None:
    source = write_report(make_small()).read_text(encoding="utf-8")
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert source.index(f'<meta http-equiv="Content-Security-Policy" content="{policy}">') < source.index("<title>")


def test_a_folder_with_a_hostile_name(make_small: MakeRun, clean: set[str], tmp_path: Path) -> None:
    gradient, twin = (make_small(method="gradient") for _ in "ab")
    run = gradient.rename(tmp_path / "<img src=x onerror=alert(1)>\udcff\n_")
    page = Elements(write_report(run, [twin, twin]))
    assert page.tags <= clean
    assert "<img src=x onerror=alert(1)>\ufffd _" in page.text


@pytest.mark.parametrize("string", STRINGS.values(), ids=STRINGS.keys())
@pytest.mark.filterwarnings("ignore:Glyph")
def test_names_of_classes_make_a_whole_picture(tmp_path: Path, string: str) -> None:
    write_figure(tmp_path / "x.svg", confusion([[1, 0], [0, 1]], [string[:300], "b"]))
    ElementTree.parse(tmp_path / "x.svg")


DEEP = "[" * 100_000


@pytest.mark.parametrize("name", ["metrics.jsonl", "result.json", "drawing.json"])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": ' + DEEP, "recursion limit exceeded"),
        ('{"a": ' + "9" * 5000 + "}", "number out of range"),
        (b'{"a": "\xff"}', "invalid unicode code point"),
        ("NaN", "must be an object .nan."),
        ("[]", r"must be an object \(\[\]\)"),
        ("{}", "(Field required|must have either groups or cells)"),
        ("x" * (2**23 + 1), "more than 8 MiB of JSON"),
    ],
    ids=["deep", "digits", "not UTF-8", "NaN", "list", "empty", "large"],
)
def test_bad_json_is_one_line(make_small: MakeRun, name: str, text: str | bytes, words: str) -> None:
    run = make_small()
    (run / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=f"{name}.*: .*{words}.*; fix or remove it") as error:
        write_report(run)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("name", ["metrics.jsonl", "result.json", "drawing.json"])
def test_a_name_that_stands_twice(make_small: MakeRun, name: str) -> None:
    run = make_small()
    (run / name).write_text((run / name).read_text().replace("{", '{"a": 1, "a": 2, ', 1))
    with pytest.raises(UserError, match=f"{name}.*: 'a' stands in it twice; fix or remove it"):
        write_report(run)


def test_too_many_records(make_small: MakeRun) -> None:
    line = json.dumps({"kind": "comparison", "step": 1, "sampler": [0.5] * 10**6, "uniform": []})
    run = make_small()
    (run / "metrics.jsonl").write_text(f"{line}\n" * 5)
    with pytest.raises(UserError, match="line 5: more than 16 MiB of records up to here"):
        write_report(run)


def extreme(result: dict[str, Any], flops: int, predicted: float) -> dict[str, Any]:
    best = result["best"] | {"flops": flops, "params": flops, "predicted_score": predicted}
    return result | {"best": best, "pareto": [best], "evaluations": [], "evaluated": 0}


@pytest.mark.parametrize(
    "change",
    [
        lambda r: extreme(r, 0, 0.0),
        lambda r: extreme(r, 2**63 - 1, -1e18),
        lambda r: r | {"evaluations": [r["evaluations"][0]] * 3, "seconds": 1e18},
        lambda r: (
            r | {"draws": {"sampler": {"mean": 0.5, "std": 0, "n": 1}, "uniform": {"mean": 0.5, "std": 0, "n": 1}}}
        ),
        lambda r: r | {"truth": TRUTH | {"uniform_best_of": {}, "best_of": None, "best": None, "draws": []}},
        lambda r: r | {"truth": TRUTH | {"sample": {"scores": [], "truth": []}}},
    ],
)
def test_extreme_results_are_drawn(make_small: MakeRun, change: Callable[[Any], Any]) -> None:
    run = make_small(max_flops=1e18)
    (run / "result.json").write_text(json.dumps(change(make_result())))
    assert "fig-pareto" in Page(write_report(run)).figures


@pytest.mark.parametrize("loss", [math.nan, math.inf, 1e308, -1e308, 0])
def test_extreme_records_are_drawn(make_small: MakeRun, loss: float) -> None:
    run = make_small()
    one = {"step": 1, "epoch": 0, "entropy": 0, "loss": loss, "kl": loss, "accuracy": 0}
    few = {"scores": [0.5, 0.5], "learned": [True, True], "probabilities": [[1.0], [0.0] * 32]}
    lines = [
        one | few | {"kind": kind, "generation": 0, "best": 0, "mean": 0} for kind in ("train", "update", "generation")
    ]
    lines.append({"kind": "comparison", "step": 1, "sampler": [0.5, 0.5], "uniform": [0.5]})
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert len(Page(write_report(run)).figures) == 9


@pytest.mark.parametrize(
    "drawing",
    [
        {"title": "", "operations": [], "cells": []},
        {"title": "", "operations": [], "cells": [{"name": "", "nodes": [], "edges": []}]},
        {"title": "", "operations": [], "input": "", "before": [], "groups": [], "after": []},
        {"title": "", "operations": [], "input": "", "before": [], "groups": [], "after": ["", "W" * 100] * 3},
    ],
)
def test_an_empty_drawing_is_drawn(make_small: MakeRun, drawing: dict[str, Any]) -> None:
    run = make_small()
    (run / "drawing.json").write_text(json.dumps(drawing))
    assert "fig-architecture" in Page(write_report(run)).figures


def test_a_drawing_too_large_to_draw(make_small: MakeRun) -> None:
    run = make_small()
    drawing = json.loads((run / "drawing.json").read_text())
    edit(run / "drawing.json", groups=[drawing["groups"][0] | {"slots": [{"slot": 0, "operation": 0}] * 3000}])
    with pytest.raises(UserError, match="has 3000 slots, must have at most 2000"):
        write_report(run)


@pytest.mark.parametrize("text", ["{}", "[]", '{"best": {"code": 3}}', "{", '{"accuracy": 1}'])
@pytest.mark.parametrize("command", ["show RUN", "draw -o x.svg RUN", "train RUN", "train --resume RUN", "report RUN"])
def test_whoever_reads_a_result(
    make_small: MakeRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str, text: str
) -> None:
    run = make_small()
    monkeypatch.chdir(run)
    if "--resume" in command:
        (run / "environment.json").write_text(f'{{"format": {FORMAT}, "kind": "training", "environment": {{}}}}')
        (run / "config.yaml").write_text(f"# vaenas {vaenas.__version__}\ncode: 333-333-333333-333\n")
    (run / "result.json").write_text(text)
    assert call(*(str(run) if word == "RUN" else word for word in command.split())) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "result.json" in line


def test_the_result_of_a_search_is_not_one_of_a_training(make_small: MakeRun) -> None:
    with pytest.raises(UserError, match=r"kind: must be 'training' .'search'.; fix or remove it, or give another"):
        read_json(TrainingResult, make_small() / "result.json")
