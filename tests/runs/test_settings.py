"""Settings say what was run, wherever they are read again, and a resumed run sees the same images."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.runs.command import TINY, call, make_pictures, result
from vaenas.errors import UserError
from vaenas.runs.config import SearchConfig
from vaenas.runs.settings import make, option, settings_of
from vaenas.samplers.vae import PAPER, RECOMMENDED
from vaenas.training.config import TrainConfig


def saved(path: Path, **options: object) -> Path:
    path.write_text(yaml.safe_dump(make(SearchConfig, options).model_dump()))
    return path


def test_a_preset_on_the_command_line_brings_its_own_numbers_over_a_saved_file(tmp_path: Path) -> None:
    file = saved(tmp_path / "config.yaml")
    assert make(SearchConfig, {}, file).vae == RECOMMENDED
    paper = make(SearchConfig, {"preset": "paper", "vae.free_bits": "0.3"}, file)
    assert paper.vae == replace(PAPER, free_bits=0.3)
    assert make(SearchConfig, {"preset": "recommended"}, saved(tmp_path / "paper.yaml", preset="paper")) == make(
        SearchConfig, {}
    )
    changed = saved(tmp_path / "changed.yaml", preset="paper", **{"evolution.top_k": 3})
    assert make(SearchConfig, {}, changed).evolution.top_k == 3


def test_settings_of_one_space_are_not_those_of_another(tmp_path: Path) -> None:
    """What a space decides is left to it in a saved file."""
    file = saved(tmp_path / "config.yaml")
    assert make(SearchConfig, {"space": "nasnet"}, file).image_space().config.width == 8


def test_saved_settings_hold_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pictures").mkdir()
    monkeypatch.chdir(tmp_path)
    file = saved(tmp_path / "config.yaml", data={"source": "pictures"})
    monkeypatch.chdir("/")
    assert make(SearchConfig, {}, file).data.source == str(tmp_path / "pictures")
    assert make(SearchConfig, {"data": {"source": "cifar10", "root": "somewhere"}}).data.root == "/somewhere"


def test_a_run_does_not_resume_on_other_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures, run = make_pictures(tmp_path / "pictures"), tmp_path / "run"
    assert call("search", "--data", pictures, "--output", run, *TINY) == 0
    before = result(run)
    (run / "result.json").unlink()
    shutil.copy(pictures / "train/red/0.png", pictures / "train/red/new.png")
    capsys.readouterr()
    assert call("search", "--resume", run) == 2
    assert "changed since the run was begun" in capsys.readouterr().err
    (pictures / "train/red/new.png").unlink()
    assert call("search", "--resume", run) == 0  # nothing was lost
    assert result(run) == before


def test_a_finished_run_is_shown_again_without_its_images(finished: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    settings = yaml.safe_load((run / "config.yaml").read_text())
    head = (run / "config.yaml").read_text().split("\n", 1)[0]
    settings["data"]["source"] = str(tmp_path / "gone")
    (run / "config.yaml").write_text(head + "\n" + yaml.safe_dump(settings))
    assert call("search", "--resume", run) == 0


NO_EFFECT = [  # command, what is given, why the last of it is refused
    ("search", "--table.sample 50", "without a table"),
    ("search", "--data.download", "but with data cifar10"),
    ("search", "--data-root x", "but with data cifar10"),
    ("search", "--workers 2", "but on a folder of images"),
    ("search", "--skip-bad-images", "but on a folder of images"),
    ("search", "--gradient.arch-data-fraction 0.4", "without method gradient"),
    ("search", "--method gradient --evolution.top-k 3", "with method gradient"),
    ("search", "--method gradient --update.epsilon-limit 1", "with method gradient"),
    ("search", "--method gradient --gradient.arch-update mixture --sampler uniform", "with gradient.arch_update"),
    ("search", "--method gradient --gradient.arch-update two-path --vae.latent 3", "without sampler vae"),
    ("search", "--sampler uniform --update.epsilon-inc 0.1", "with a sampler that never learns"),
    ("search", "--sampler uniform --update.vae-interval 2", "with a sampler that never learns"),
    ("search", "--sampler categorical --vae.kl-weight 2", "without sampler vae"),
    ("search", "--categorical.floor 0.1", "without sampler categorical"),
    ("search", "--ranking.metric likelihood --surrogate.kind none --surrogate.rounds 3", "without surrogate ridge"),
    ("search", "--preset paper --surrogate.rounds 3", "without surrogate ridge"),
    ("train", "--training.temperature 2", "without a teacher"),
    ("train", "--training.distillation 0.9", "without a teacher"),
    ("train", "--space macro --training.dropout 0.3", "but in space shufflenet"),
    ("train", "--workers 2", "but on a folder of images"),
    ("eval", "--workers 2", "but on a folder of images"),
    ("eval", "--data-root x", "but with data cifar10"),
]


@pytest.mark.parametrize(("command", "words", "why"), NO_EFFECT)
def test_a_setting_without_effect_is_refused_where_it_is_given(
    command: str, words: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = {"train": ["3-3-33-3"], "eval": [tmp_path]}.get(command, [])
    flag, _, value = words[words.rindex("--") :].partition(" ")
    assert call(command, *first, *words.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{flag}: has no effect {why}" in line
    if command == "search":  # the same in a file, which is named
        path = next(path for path in settings_of(SearchConfig) if option(path) == flag)
        part, _, name = path.rpartition(".")
        (tmp_path / "s.yaml").write_text(f"{part}: {{{name}: {value or 'true'}}}\n" if part else f"{name}: {value}\n")
        others = words[: words.rindex("--")].split()
        assert call("search", "--config", tmp_path / "s.yaml", *others) == 2
        assert f"s.yaml, {path}: has no effect" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--keep-ratio 0.3", "No such option: --keep-ratio (Possible options: --categorical.keep-ratio, --vae"),
        ("--vae.keepratio 0.3", "No such option: --vae.keepratio (Possible options: "),
        ("--vae.keep-ratio", "Option '--vae.keep-ratio' requires an argument"),
        ("--vae.keep-ratio 3", "--vae.keep-ratio: '3' is not allowed: must be less than or equal to 1"),
    ],
)
def test_what_is_wrong_with_a_dotted_path(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("search", *words.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("vae: 3", "vae: 3 is not allowed: must hold settings as 'name: value'"),
        ("vae: [1]", "vae: [1] is not allowed: must hold settings"),
        ("vae: {keep_rato: 0.3}", "vae.keep_rato: there is no such setting; did you mean vae.keep_ratio?"),
        ("keep_ratio: 0.3", "keep_ratio: there is no such setting; did you mean vae.keep_ratio?"),
        ("seed: {vae: 1}", "seed.vae: there is no such setting; did you mean"),
        ("vae: {latent: {of: 1}}", "vae.latent.of: there is no such setting; did you mean"),
        ("supernet: {epochs: true}", "supernet.epochs: true is not allowed: must be no truth value"),
        ("space: null", "space: None is not allowed"),
    ],
)
def test_what_is_wrong_with_a_nested_file(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.yaml").write_text(text)
    assert call("search", "--config", tmp_path / "s.yaml") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"s.yaml, {said}" in line


@pytest.mark.parametrize("preset", ["recommended", "paper"])
@pytest.mark.parametrize("sampler", ["uniform", "categorical", "mixture"])
def test_the_settings_of_a_run_are_taken_whole(sampler: str, preset: str, tmp_path: Path) -> None:
    """All of them stand in its file: those without effect as they are by default, and so may be given, too."""
    own: dict[str, Any] = {"sampler": sampler}
    if sampler == "mixture":
        own = {"method": "gradient", "gradient": {"arch_update": sampler}}
    file = saved(tmp_path / "config.yaml", preset=preset, **own)
    usual = {"recommended": RECOMMENDED, "paper": PAPER}[preset].free_bits
    assert make(SearchConfig, {}, file).sampler_name == sampler
    given = {"vae.free_bits": usual, "gradient.arch_data_fraction": "0.5"}
    assert make(SearchConfig, given, file).sampler_name == sampler


NUMBERS = [
    (model, path)
    for model in (SearchConfig, TrainConfig)
    for path, field in settings_of(model).items()
    if re.search("int|float", str(field.annotation))
]


@pytest.mark.parametrize(("model", "path"), NUMBERS)
def test_no_number_is_too_large(model: type[SearchConfig | TrainConfig], path: str) -> None:
    """Each setting has a largest value: beyond it torch would overflow, or the memory run out."""
    with pytest.raises(UserError, match=rf"^{option(path)}: '9+' is not allowed: must be less than"):
        make(model, {path: "9" * 20})
    if "float" in str(settings_of(model)[path].annotation):
        for text in ("nan", "inf", "-inf"):
            with pytest.raises(UserError, match=rf"^{option(path)}: '{text}' is not allowed"):
                make(model, {path: text})
