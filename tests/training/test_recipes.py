"""The presets are App. A.1's to the letter; settings say what is run, and what is wrong with them."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.runs.command import call
from vaenas.networks import space_names
from vaenas.runs.settings import make
from vaenas.spaces.nasbench101 import NASBench101Space
from vaenas.training.config import RECIPES, TrainConfig

CELL = "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|nor_conv_3x3~2|"
CELLS = NASBench101Space()
MATRIX = CELLS.own_text(CELLS.decode(["0-01-000-1000-10111-100101-pp11p"])[0])
CODE = "33-33n-3snn-s7nnn-mm-nns-mnsn-nmsd5"


def test_the_paper_s_recipes() -> None:
    cifar10 = RECIPES["cifar10"]
    assert (cifar10.epochs, cifar10.batch_size) == (600, 48)
    assert (cifar10.auxiliary, cifar10.drop_path, cifar10.cutout) == (0.4, 0.2, 16)
    assert (cifar10.learning_rate, cifar10.schedule, cifar10.weight_decay) == (0.025, "cosine", 3e-4)  # Liu et al.
    for name, epochs, batch in (("imagenet-shufflenet", 480, 1024), ("imagenet-nasnet", 300, 512)):
        recipe = RECIPES[name]
        assert (recipe.epochs, recipe.batch_size, recipe.learning_rate) == (epochs, batch, 0.5)
        assert (recipe.schedule, recipe.momentum, recipe.weight_decay) == ("linear", 0.9, 3e-5)
        assert recipe.inception
        assert (recipe.rand_augment, recipe.mixup, recipe.cutmix, recipe.cutout) == (0, 0, 0, 0)  # "no other"
    assert RECIPES["imagenet-shufflenet"].dropout == 0.5
    assert RECIPES["imagenet-nasnet"].auxiliary == 0.4
    assert all(recipe.label_smoothing == 0.1 for recipe in RECIPES.values())


@pytest.mark.parametrize("space", space_names())
@pytest.mark.parametrize("recipe", ["quick", "modern", "imagenet-shufflenet"])
def test_these_recipes_are_for_every_space(recipe: str, space: str) -> None:
    assert make(TrainConfig, {"code": "any", "space": space, "recipe": recipe}).recipe == recipe


def test_a_setting_beside_a_recipe_changes_that_alone() -> None:
    config = make(TrainConfig, {"code": CODE, "space": "nasnet", "recipe": "cifar10", "training.epochs": "3"})
    assert config.training == replace(RECIPES["cifar10"], epochs=3)


def test_another_recipe_on_the_command_line_brings_its_own_numbers_over_a_saved_file(tmp_path: Path) -> None:
    saved = make(TrainConfig, {"code": CODE, "space": "nasnet", "recipe": "cifar10", "network.width": "4"})
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(saved.model_dump()))
    assert make(TrainConfig, {}, file) == saved
    quick = make(TrainConfig, {"recipe": "quick"}, file)
    assert quick.training == RECIPES["quick"]
    assert quick.network.width == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--code: missing"),
        (["3357"], "space shufflenet writes 10 operations as"),
        (["--code", "33-33", "--recipe", "fast"], "--recipe: 'fast' is not allowed"),
        ([CODE, "--space", "nasnet", "--width", "7"], "--width: 7"),
        (["nn" + CODE[2:], "--space", "nasnet"], "not valid in space nasnet"),
        (["33-33-3333-33", "--recipe", "cifar10"], "--training.auxiliary: 0.4 is for space nasnet alone"),
        (["33-33-3333-33", "--batch-size", "20000"], "--batch-size 20000: there are only"),
        (["33-33-3333-33", "--train-images", "10000000"], "--train-images 10000000: there are only"),
        (["33-33-3333-33", "--learning-rate", "-1"], "--learning-rate: '-1' is not allowed"),
        (["33-33-3333-33", "--data", "cifar10", "--data-root", "/nowhere"], "/nowhere"),
        ([CELL, "--batch-size", "20000"], "--batch-size 20000: there are only"),  # of space nasbench201
        ([MATRIX, "--batch-size", "20000"], "--batch-size 20000: there are only"),
        ([CELL, "--space", "macro"], "space macro writes 8 operations"),
        ([CELL[:-1]], "fits no space, and there is no such run folder; name the space with --space"),
        (["33-33-3333-33", "--resume", "nowhere"], "--resume nowhere"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("train", *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not list(tmp_path.iterdir())


def test_an_unknown_field_of_a_recipe_file_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"code: {CODE}\nspace: nasnet\ntraining:\n  learning_rates: 0.1\n")
    assert call("train", "--config", file, "--output", tmp_path / "run") == 2
    assert (
        f"{file}, training.learning_rates: there is no such setting; did you mean training.learning_rate?"
        in capsys.readouterr().err
    )
    assert not (tmp_path / "run").exists()
