"""Settings say what was run, wherever they are read again, and a resumed run sees the same images."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.runs.command import TINY, call, make_pictures, result
from vaenas.errors import UserError
from vaenas.runs.config import SearchConfig, make_config, option
from vaenas.samplers.vae import PAPER, RECOMMENDED
from vaenas.training.config import TrainConfig, make_train_config


def saved(path: Path, **options: object) -> Path:
    path.write_text(yaml.safe_dump(make_config(options).model_dump()))
    return path


def test_a_preset_on_the_command_line_brings_its_own_numbers_over_a_saved_file(tmp_path: Path) -> None:
    file = saved(tmp_path / "config.yaml")
    assert make_config({}, file).keep_ratio == RECOMMENDED.keep_ratio
    literal = make_config({"vae": "paper", "free_bits": "0.3"}, file)
    assert (literal.keep_ratio, literal.kl_weight, literal.vae_iterations) == (
        PAPER.keep_ratio, PAPER.kl_weight, PAPER.iterations,
    )  # fmt: skip
    assert literal.free_bits == 0.3
    assert literal.epsilon_limit == PAPER.keep_ratio  # which follows K


def test_epsilon_ends_at_k_wherever_that_comes_from_and_at_what_was_asked_for_else(tmp_path: Path) -> None:
    file = saved(tmp_path / "config.yaml")
    assert make_config({"keep_ratio": "0.1"}, file).epsilon_limit == 0.1
    assert make_config({"keep_ratio": "0.1", "epsilon_limit": "0.3"}, file).epsilon_limit == 0.3
    assert make_config({"epochs": "3"}, saved(tmp_path / "other.yaml", epsilon_limit=0.6)).epsilon_limit == 0.6


def test_saved_settings_hold_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pictures").mkdir()
    monkeypatch.chdir(tmp_path)
    file = saved(tmp_path / "config.yaml", data="pictures")
    monkeypatch.chdir("/")
    assert make_config({}, file).data == str(tmp_path / "pictures")
    assert make_config({"data": "cifar10", "data_root": "somewhere"}).data_root == "/somewhere"


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
    (run / "config.yaml").write_text(head + "\n" + yaml.safe_dump({**settings, "data": str(tmp_path / "gone")}))
    assert call("search", "--resume", run) == 0


NO_EFFECT = [  # command, what is given, the first that is named
    ("search", "--table-sample 50", "--table-sample: has no effect without a table"),
    ("search", "--download", "--download: has no effect but with data cifar10"),
    ("search", "--data-root x", "--data-root: has no effect but with data cifar10"),
    ("search", "--workers 2", "--workers: has no effect but on a folder of images"),
    ("search", "--skip-bad-images", "--skip-bad-images: has no effect but on a folder of images"),
    ("search", "--weights-share 0.4", "--weights-share: has no effect without method gradient"),
    ("search", "--method gradient --top-k 3", "--top-k: has no effect with method gradient"),
    ("search", "--method gradient --epsilon-limit 1", "--epsilon-limit: has no effect with method gradient"),
    ("search", "--sampler uniform --epsilon-inc 0.1", "--epsilon-inc: has no effect with a sampler that never learns"),
    ("search", "--sampler uniform --vae-interval 2", "--vae-interval: has no effect with a sampler that never learns"),
    ("search", "--sampler categorical --kl-weight 2", "--kl-weight: has no effect without sampler vae"),
    ("search", "--surrogate none --surrogate-rounds 3", "--surrogate-rounds: has no effect without surrogate ridge"),
    ("train", "--temperature 2", "--temperature: has no effect without a teacher"),
    ("train", "--distillation 0.9", "--distillation: has no effect without a teacher"),
    ("train", "--space macro --dropout 0.3", "--dropout: has no effect but in space shufflenet"),
    ("train", "--workers 2", "--workers: has no effect but on a folder of images"),
    ("eval", "--workers 2", "--workers: has no effect but on a folder of images"),
    ("eval", "--data-root x", "--data-root: has no effect but with data cifar10"),
]


@pytest.mark.parametrize(("command", "words", "said"), NO_EFFECT)
def test_a_setting_without_effect_is_refused_where_it_is_given(
    command: str, words: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = {"train": ["3-3-33-3"], "eval": [tmp_path]}.get(command, [])
    assert call(command, *first, *words.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    if command == "search":  # the same in a file, which is named
        name, _, value = words.rpartition("--")[2].replace("-", "_").partition(" ")
        (tmp_path / "s.yaml").write_text(f"{name}: {value or 'true'}\n")
        others = words[: words.rindex("--")].split()
        assert call("search", "--config", tmp_path / "s.yaml", *others) == 2
        assert f"s.yaml, {name}: has no effect" in capsys.readouterr().err


@pytest.mark.parametrize("sampler", ["uniform", "categorical", "full"])
def test_the_settings_of_a_run_are_taken_whole(sampler: str, tmp_path: Path) -> None:
    """All of them stand in its file: those without effect as they are by default, and so may be given, too."""
    method = "gradient" if sampler == "full" else "one-shot"
    file = saved(tmp_path / "config.yaml", sampler=sampler, method=method)
    assert make_config({}, file).sampler == sampler
    assert make_config({"free_bits": RECOMMENDED.free_bits, "weights_share": "0.5"}, file).sampler == sampler


NUMBERS = [
    (make, name)
    for make, model in ((make_config, SearchConfig), (make_train_config, TrainConfig))
    for name, field in model.model_fields.items()
    if re.search("int|float", str(field.annotation))
]


@pytest.mark.parametrize(("make", "name"), NUMBERS)
def test_no_number_is_too_large(make: Callable[[dict[str, str]], object], name: str) -> None:
    """Each setting has a largest value: beyond it torch would overflow, or the memory run out."""
    with pytest.raises(UserError, match=rf"^{option(name)}: '9+' is not allowed: must be less than"):
        make({name: "9" * 20})
