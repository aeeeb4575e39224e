"""The page: every figure there, nothing loaded from elsewhere, valid and escaped, for whole and for broken runs."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from vaenas.errors import UserError
from vaenas.report import write_report

from .conftest import MakeRun, make_records

FIGURES = [
    "fig-training", "fig-sampler", "fig-probabilities", "fig-scores", "fig-draws", "fig-evolution", "fig-pareto",
    "fig-architecture",
]  # fmt: skip
OF_SAMPLER = ["fig-sampler", "fig-probabilities", "fig-scores", "fig-draws"]
VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Reads a page, fails on tags that do not match, and keeps ids, references, figures with an svg, and the text."""

    def __init__(self, path: Path):
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.figures: dict[str, int] = {}
        self.captions: dict[str, str] = {}
        self.text = ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.ids += [values["id"]] if "id" in values else []
        self.references += [v for k, v in attrs if k in ("src", "href", "xlink:href", "action", "data") and v]
        if tag == "figure":
            self.figures[values["id"]] = 0
        if tag == "svg":
            self.figures[list(self.figures)[-1]] += 1
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data
        if "figcaption" in self.open:
            name = list(self.figures)[-1]
            self.captions[name] = self.captions.get(name, "") + data


@pytest.fixture(scope="module")
def page(make_run: MakeRun) -> Page:
    return Page(write_report(make_run()))


def edit(path: Path, **changes: object) -> None:
    """Changes keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_every_figure_has_one_svg_and_a_caption(page: Page):
    assert page.figures == dict.fromkeys(FIGURES, 1)
    assert all(len(page.captions[name]) > 60 for name in FIGURES)


def test_nothing_is_loaded_from_elsewhere(page: Page):
    assert not re.search(r"https?://", re.sub(r'xmlns(:\w+)?="[^"]*"', "", page.source))
    assert all(r.startswith(("#", "data:")) for r in page.references)
    assert "<script" not in page.source
    assert "@import" not in page.source


def test_ids_are_unique_and_references_are_there(page: Page):
    assert len(page.ids) == len(set(page.ids))
    used = {r[1:] for r in page.references if r.startswith("#")} | set(re.findall(r"url\(#([^)]+)\)", page.source))
    assert used
    assert used <= set(page.ids)


def test_verdict_table_and_settings(page: Page, make_run: MakeRun):
    run = make_run()
    result = json.loads((run / "result.json").read_text())
    best = result["best"]
    verdict = page.text[page.text.index("The best architecture has") :][:200]
    for words in (f"{100 * best['score']:.2f} %", f"{best['flops'] / 1e6:.4g}M FLOPs", best["code"]):
        assert words in verdict
    assert all(entry["code"] in page.text for entry in result["pareto"])
    assert all(key in page.text for key in yaml.safe_load((run / "config.yaml").read_text()))
    assert "not finished" not in page.text


def test_draws_caption_has_the_difference_and_its_interval(make_run: MakeRun):
    run = make_run()
    # Means 0.8 and 0.7, both with variance 0.02 and n = 2: Welch's error is sqrt(0.01 + 0.01).
    comparison = {"kind": "comparison", "step": 1, "seconds": 1.0, "sampler": [0.7, 0.9], "uniform": [0.6, 0.8]}
    (run / "metrics.jsonl").write_text(json.dumps(comparison) + "\n")
    caption = Page(write_report(run)).captions["fig-draws"]
    assert "2 learned and 2 uniform" in caption
    assert "+10.00 points, 95 % interval -17.72 to +37.72" in caption


def test_records_of_two_spaces_are_no_run(make_run: MakeRun):
    run = make_run()
    lines = (run / "metrics.jsonl").read_text().splitlines()
    update = next(json.loads(line) for line in lines if '"kind": "update"' in line)
    other = update | {"step": 1, "probabilities": update["probabilities"][1:]}
    (run / "metrics.jsonl").write_text("\n".join([*lines, json.dumps(other)]) + "\n")
    with pytest.raises(UserError, match="the number of slots or operations changes between records"):
        write_report(run)


def test_what_the_last_stage_was(make_run: MakeRun):
    """Rounds by a surrogate are no evolution."""
    run = make_run()
    assert "Evolutionary search" in Page(write_report(run)).captions["fig-evolution"]
    lines = (run / "metrics.jsonl").read_text().replace('"kind": "generation"', '"kind": "surrogate"')
    (run / "metrics.jsonl").write_text(lines.replace('"generation": ', '"drawn": "uniform", "round": '))
    page = Page(write_report(run))
    assert "Search by a surrogate. Best accuracy so far and mean of each of 10 rounds" in page.captions["fig-evolution"]
    assert "a ridge surrogate predicts" in page.captions["fig-pareto"]
    assert "volution" not in page.text


def test_text_is_escaped(make_run: MakeRun):
    evil = "<script>alert('&amp;')</script>$x_$"
    run = make_run(space=evil, note=evil)
    result = json.loads((run / "result.json").read_text())
    drawing = json.loads((run / "drawing.json").read_text())
    drawing["operations"][0] = {"symbol": evil[:9], "name": evil}
    edit(run / "drawing.json", title=evil, operations=drawing["operations"], before=[evil])
    edit(run / "result.json", best=result["best"] | {"code": evil}, version=evil)
    page = Page(write_report(run))
    assert "<script" not in page.source
    assert page.text.count(evil) >= 5


def test_early_stopped_run(make_run: MakeRun):
    page = Page(write_report(make_run(finished=False)))
    assert list(page.figures) == FIGURES[:4]
    assert page.text.index("This run is not finished") < page.text.index(
        "So far, the supernet has trained for 12 epochs"
    )
    assert "no result.json" in page.text


def test_line_cut_off_in_a_running_run(make_run: MakeRun):
    run = make_run(finished=False)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')
    assert "last line of metrics.jsonl is incomplete" in Page(write_report(run)).text


def test_fixed_sampler_has_one_sentence_instead_of_figures(make_run: MakeRun):
    page = Page(write_report(make_run(sampler="fair")))
    assert list(page.figures) == [name for name in FIGURES if name not in OF_SAMPLER]
    assert page.text.count("“fair” is fixed") == 1


def test_categorical_sampler_has_no_latent_code(make_run: MakeRun):
    page = Page(write_report(make_run(sampler="categorical")))
    assert list(page.figures) == FIGURES
    assert "no KL, active units or reconstruction" in page.captions["fig-sampler"]


def test_no_update_yet(make_run: MakeRun):
    page = Page(write_report(make_run(updates=0, finished=False)))
    assert list(page.figures) == ["fig-training"]
    assert page.text.count("no update record yet") == 1


def test_single_update(make_run: MakeRun):
    page = Page(write_report(make_run(updates=1)))
    assert page.figures == dict.fromkeys(FIGURES, 1)
    assert "the only update" in page.captions["fig-scores"] + page.captions["fig-sampler"]


def test_update_without_scores_or_probabilities(make_run: MakeRun):
    run = make_run(finished=False)
    records = [r | {"scores": [], "learned": [], "probabilities": []} for r in make_records() if r["kind"] == "update"]
    (run / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    assert list(Page(write_report(run)).figures) == ["fig-sampler"]


def test_nothing_recorded_yet(make_run: MakeRun):
    run = make_run(finished=False)
    (run / "metrics.jsonl").write_text("")
    page = Page(write_report(run))
    assert page.figures == {}
    assert "recorded nothing" in page.text


def test_diverged_run(make_run: MakeRun):
    run = make_run(finished=False)
    diverged = {"loss": float("nan"), "kl": float("inf")}
    (run / "metrics.jsonl").write_text("".join(json.dumps(r | diverged) + "\n" for r in make_records()))
    assert "fig-training" in Page(write_report(run)).figures


def test_no_limit_no_front_and_a_large_run(make_run: MakeRun):
    run = make_run(max_flops=None, updates=60)
    result = json.loads((run / "result.json").read_text())
    edit(run / "result.json", evaluations=result["evaluations"] * 10, pareto=[])
    path = write_report(run)
    assert Page(path).figures == dict.fromkeys(FIGURES, 1)
    assert path.stat().st_size < 2_000_000


def test_slots_with_different_numbers_of_operations(make_run: MakeRun):
    run = make_run(finished=False)
    record = next(r for r in make_records() if r["kind"] == "update")
    record["probabilities"] = [[0.5, 0.5], [0.2, 0.3, 0.5], [0.1] * 10]
    (run / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    page = Page(write_report(run))
    assert "fig-probabilities" in page.figures
    assert "Operation 9" in page.text


def test_a_record_written_again_after_a_resume_counts_once(make_run: MakeRun):
    run = make_run(finished=False)
    text = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(text + text)
    assert "6 updates from epoch 2 to 12" in Page(write_report(run)).text


def test_write_is_atomic(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch):
    run = make_run(finished=False)
    (run / "report.html").write_text("before")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vaenas.files.os.replace", fail)
    with pytest.raises(UserError, match="No space left on device"):
        write_report(run)
    assert (run / "report.html").read_text() == "before"
    assert sorted(p.name for p in run.iterdir()) == ["config.yaml", "metrics.jsonl", "report.html"]


def test_missing_folder_and_files(tmp_path: Path):
    with pytest.raises(UserError, match=r"no run folder at .*nowhere"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no config\.yaml"):
        write_report(tmp_path)
    (tmp_path / "config.yaml").write_text("space: shufflenet\n")
    with pytest.raises(UserError, match=r"no metrics\.jsonl"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{broken", "Invalid JSON"),
        ("[1, 2]", "must be an object"),
        ('{"step": 1}', "kind: Field required"),
        ('{"kind": 3}', "kind: must be a valid string .3."),
        ('{"kind": "train", "step": 1, "epoch": 1, "loss": 1, "epsilon": 0}', "accuracy: Field required"),
        (
            '{"kind": "generation", "step": 1, "generation": 0, "best": 88.8, "mean": 0.5}',
            r"best: must be a number in \[0, 1\] .88.8.",
        ),
        (
            '{"kind": "comparison", "step": 1, "sampler": [true], "uniform": []}',
            r"sampler\.0: must be a number in .* .True.",
        ),
        (
            '{"kind": "update", "step": 1, "epoch": 1, "scores": [1, 1], "learned": [true], "entropy": 1,'
            ' "probabilities": []}',
            "1 values for 2 scores",
        ),
        (
            '{"kind": "update", "step": 1, "epoch": 1, "scores": [], "learned": [], "entropy": 1, "probabilities": [],'
            ' "kl": "much"}',
            "kl: must be a valid number .'much'.",
        ),
    ],
)
def test_bad_line_is_named(make_run: MakeRun, line: str, words: str):
    run = make_run()
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("\n".join([*lines[:4], line, *lines[4:]]) + "\n")
    with pytest.raises(UserError, match=f"metrics.jsonl, line 5: .*{words}") as error:
        write_report(run)
    assert "\n" not in str(error.value)
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("result.json", "{", "result.json: Invalid JSON"),
        ("result.json", "{}", "result.json: space: Field required"),
        ("drawing.json", "[]", "must be an object"),
        ("config.yaml", "a: [1", "config.yaml, line .*not YAML"),
        ("config.yaml", "word", "must hold settings as 'name: value'"),
        ("config.yaml", "constraints: {max_flops: many}", "constraints.max_flops.: must be a number in .* .'many'."),
    ],
)
def test_bad_file_is_named(make_run: MakeRun, name: str, text: str, words: str):
    run = make_run()
    (run / name).write_text(text)
    with pytest.raises(UserError, match=words):
        write_report(run)
