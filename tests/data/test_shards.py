"""WebDataset shards of real JPEGs: every image once an epoch, the same order for one seed, resumed where it was."""

import json
import tarfile
from io import BytesIO
from pathlib import Path

import pytest
import torch

from tests.runs.command import call
from vaenas.data.shards import ShardSet, open_shards
from vaenas.errors import UserError


@pytest.fixture(scope="module")
def index(imagenet_mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four shards of six images, the class of each its place in the folder."""
    root = tmp_path_factory.mktemp("shards")
    files = sorted((imagenet_mini / "imagenet-native" / "train").rglob("*.JPEG"))[:24]
    shards = []
    for number in range(4):
        name = f"train-{number}.tar"
        with tarfile.open(root / name, "w") as tar:
            for row in range(6 * number, 6 * number + 6):
                for ending, content in (("jpg", files[row].read_bytes()), ("cls", str(row).encode())):
                    info = tarfile.TarInfo(f"{row:05}.{ending}")
                    info.size = len(content)
                    tar.addfile(info, BytesIO(content))
        shards.append({"url": name, "nsamples": 6})
    (root / "index.json").write_text(json.dumps({"__kind__": "wids-shard-index-v1", "shardlist": shards}))
    return root / "index.json"


def opened(index: Path, workers: int = 2) -> ShardSet:
    return open_shards(index, tuple(map(str, range(24))), 24, workers)


def epoch(shards: ShardSet, seed: int, done: int = 0) -> tuple[torch.Tensor, list[int]]:
    images, labels = zip(*shards.stream(torch.arange(24).split(4)[done:], None, seed), strict=True)
    return torch.cat(images), torch.cat(labels).tolist()


def test_every_image_once_an_epoch(index: Path) -> None:
    shards = opened(index)
    assert len(shards) == 24
    images, order = epoch(shards, seed=0)
    assert sorted(order) == list(range(24))
    again, same = epoch(shards, seed=0)
    assert same == order != sorted(order)
    assert torch.equal(images, again)
    assert epoch(shards, seed=1)[1] != order
    rest, left = epoch(shards, seed=0, done=4)
    assert left == order[16:]
    assert torch.equal(rest, images[16:])


def test_what_is_no_index(index: Path, tmp_path: Path, imagenet_mini: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.json").write_text('{"shardlist": []}')
    (tmp_path / "bad.json").write_text("{}")
    for name, said in (("empty", "lists no shards"), ("bad", "not an index"), ("none", "not an index")):
        with pytest.raises(UserError, match=said):
            opened(tmp_path / f"{name}.json")
    few = open_shards(index, ("a", "b"), 24, 1)
    with pytest.raises(UserError, match=r"no \.cls from 0 to 1 beside the image"):
        list(few.stream(torch.arange(24).split(12), None, 0))
    words = ["--data", imagenet_mini / "imagenet-mini", "--shards", index, "--train-images", 5]
    assert call("train", "3-5-7x-3", "--layers", 5, *words, "--output", tmp_path / "run") == 2
    assert "--train-images: 5 does not go with shards" in capsys.readouterr().err


def test_a_training_reads_them(
    index: Path, imagenet_mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder gives ten classes and the test images; the shards' first ten classes alone would do, so two shards."""
    monkeypatch.setenv("VAENAS_CACHE", str(tmp_path / "cache"))
    listed = json.loads(index.read_text())
    short = index.with_name("short.json")
    short.write_text(json.dumps({**listed, "shardlist": listed["shardlist"][:1]}))  # classes 0 to 5
    words = ["--data", imagenet_mini / "imagenet-mini", "--shards", short, "--image-size", 32, "--workers", 1]
    words += ["--epochs", 2, "--batch-size", 3, "--width", 0.125, "--layers", 5, "--recipe", "imagenet-shufflenet"]
    assert call("train", "3-5-7x-3", *words, "--learning-rate", 0.01, "--output", tmp_path / "run") == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["images"]["training"] == 6
    assert 0 <= result["accuracy"] <= 1
