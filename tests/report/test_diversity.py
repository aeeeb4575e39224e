"""Reports of the gradient-based method: its own figures and sentences, and runs side by side."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.report.conftest import MakeRun
from tests.report.test_report import Page
from tests.runs.command import call
from vaenas.errors import UserError
from vaenas.report import figures, write_report
from vaenas.report.run_data import read_run


def gradient(make_run: MakeRun, sampler: str = "vae", **settings: object) -> Path:
    return make_run(sampler=sampler, method="gradient", **settings)


def test_a_run_of_the_vae(make_run: MakeRun) -> None:
    page = Page(write_report(gradient(make_run)))
    assert "fig-diversity" in page.figures
    assert "fig-evolution" not in page.figures
    assert "No evolutionary search" in page.text
    assert "ε" not in page.captions["fig-training"]
    assert "architecture weights" in page.captions["fig-training"]
    assert "gradient-based search, VAE sampler" in page.text
    assert "The derived architecture has a search accuracy" in page.text


@pytest.mark.parametrize("sampler", ["two-path", "mixture"])
def test_a_run_of_the_weights_alone_says_where_draws_come_from(make_run: MakeRun, sampler: str) -> None:
    page = Page(write_report(gradient(make_run, sampler)))
    assert "fig-diversity" in page.figures
    assert "come from softmax(w)" in page.text
    assert "it never learns" not in page.text


def test_one_shot_runs_have_no_section_of_diversity(make_run: MakeRun) -> None:
    assert "Diversity" not in Page(write_report(make_run())).text


def test_an_unfinished_run(make_run: MakeRun) -> None:
    page = Page(write_report(gradient(make_run, finished=False)))
    assert "This run is not finished" in page.text
    assert "fig-diversity" not in page.figures or page.figures["fig-diversity"] == 1


def test_lines_are_the_records(make_run: MakeRun) -> None:
    run = read_run(gradient(make_run))
    figure = figures.diversity([("vae", run), ("other", replace(run, updates=[]))])
    entropy, distinct, free, params = figure.axes
    means = [np.mean(r.entropy_of_weights) for r in run.weights]
    assert np.allclose(entropy.lines[0].get_ydata(), np.maximum(means, figures.FLOOR))
    assert entropy.lines[0].get_linestyle() == "--"  # softmax(w), beside the sampler's draws
    drawn = [u.entropy for u in run.updates]  # mean over slots, of the same probabilities
    assert np.allclose(entropy.lines[1].get_ydata(), drawn, atol=1e-6)
    assert entropy.lines[2].get_linestyle() == "-"
    assert entropy.get_yscale() == "log"
    assert list(distinct.lines[0].get_ydata()) == [r.distinct_so_far for r in run.weights]
    assert np.allclose(free.lines[0].get_ydata(), [100 * r.parameter_free for r in run.weights])
    assert np.allclose(params.lines[0].get_ydata(), [r.params / 1e6 for r in run.weights])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["vae", "other"]


def test_side_by_side(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    run, other, third = gradient(make_run), gradient(make_run, "two-path"), gradient(make_run, "two-path")
    assert call("report", run, "--against", other, "--against", third) == 0
    page = Page(run / "report.html")
    assert "Samplers compared" in page.text
    assert page.text.count("two-path") >= 2
    legend = [name for name in (other.name, third.name) if f"two-path, {name}" in page.source]
    assert legend == [other.name, third.name]  # two of one sampler are told apart by their folders
    write_report(run)
    assert "Samplers compared" not in Page(run / "report.html").text


def test_what_cannot_be_compared_is_named(make_run: MakeRun) -> None:
    run = gradient(make_run)
    before = write_report(run).read_bytes()
    for other in (make_run(), gradient(make_run, space="nasnet")):
        with pytest.raises(UserError, match=f"--against {other}: only runs with --method gradient in the same space"):
            write_report(run, [other])
    with pytest.raises(UserError, match="no run folder"):
        write_report(run, [run / "nothing"])
    assert (run / "report.html").read_bytes() == before
