"""Images that stay in their files: the same pixels as the cache's, whatever the number of workers; real JPEGs."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from vaenas.data.images import FileSet
from vaenas.data.load import load
from vaenas.data.settings import DataSettings
from vaenas.errors import UserError

CROP = v2.Compose([v2.RandomResizedCrop(24, antialias=True), v2.RandomHorizontalFlip()])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAENAS_CACHE", str(tmp_path / "cache"))


def native(imagenet_mini: Path, workers: int) -> FileSet:
    data = load(DataSettings(str(imagenet_mini / "imagenet-native"), image_size=24, workers=workers))
    assert isinstance(data.train, FileSet)
    return data.train


def test_the_same_pixels_as_decoded_into_the_cache(imagenet_mini: Path, tmp_path: Path) -> None:
    """Of all sizes and greyscale."""
    files = native(imagenet_mini, 2)
    assert not (tmp_path / "cache").exists()
    cached = load(DataSettings(str(imagenet_mini / "imagenet-native"), image_size=24)).train
    rows = torch.arange(len(files)).flip(0)
    for mine, other in zip(files.batch(rows), cached.batch(rows), strict=True):
        assert torch.equal(mine, other)
    assert torch.equal(files.labels, cached.labels)
    assert files.classes == cached.classes


def test_a_stream_does_not_depend_on_its_workers(imagenet_mini: Path) -> None:
    """Nor on how rows are batched; another seed gives other crops of the same images."""
    rows = torch.randperm(73, generator=torch.Generator().manual_seed(0))[:12]
    state = torch.get_rng_state()

    def pixels(workers: int, chunks: int, seed: int) -> torch.Tensor:
        images, labels = zip(*native(imagenet_mini, workers).stream(rows.chunk(chunks), CROP, seed), strict=True)
        assert torch.equal(torch.cat(labels), native(imagenet_mini, 1).labels[rows])
        return torch.cat(images)

    one = pixels(1, 3, seed=7)
    assert one.shape == (12, 3, 24, 24)
    assert torch.equal(one, pixels(2, 2, seed=7))
    assert not torch.equal(one, pixels(2, 3, seed=8))
    assert torch.equal(torch.get_rng_state(), state)


def test_bad_images_are_named_or_counted(imagenet_mini: Path, tmp_path: Path) -> None:
    root = tmp_path / "pets"
    real = sorted((imagenet_mini / "imagenet-native").rglob("*.JPEG"))
    for name in ("cat", "dog"):
        (root / "train" / name).mkdir(parents=True)
        for i in range(3):
            (root / "train" / name / f"{i}.JPEG").write_bytes(real[i].read_bytes())
    rotated, exif = Image.new("RGB", (40, 20)), Image.Exif()
    exif[0x0112] = 6
    rotated.save(root / "train" / "cat" / "0.JPEG", exif=exif)
    bad = root / "train" / "dog" / "1.JPEG"
    bad.write_bytes(real[1].read_bytes()[:500])
    rows = torch.arange(6)
    with pytest.raises(UserError, match=f"{bad}: cannot read the image: .*--skip-bad-images"):
        load(DataSettings(str(root), workers=1)).train.batch(rows)
    data = load(DataSettings(str(root), workers=1, skip_bad_images=True))
    assert isinstance(data.train, FileSet)
    images, labels = data.train.batch(rows)
    assert labels.tolist() == [0, 0, 0, 1, 1]  # an evaluation leaves it out
    ((streamed, labels),) = data.train.stream([rows], None, 0)
    assert labels.tolist() == [0, 0, 0, 1, 1, 0]  # a training batch keeps its size
    assert torch.equal(streamed[:5], images)
    assert data.skipped == ("train/dog/1.JPEG",)
    bad.unlink()
    (root / "val" / "cat").mkdir(parents=True)
    (root / "val" / "mouse").mkdir()
    for name in ("cat", "mouse"):
        rotated.save(root / "val" / name / "0.png")
    with pytest.raises(UserError, match=r"classes differ from those of train: extra \['mouse'\], missing \['dog'\]"):
        load(DataSettings(str(root), workers=1))
