import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from vaenas.data import folder, load
from vaenas.data.images import pixel_statistics
from vaenas.errors import UserError


def _save(path: Path, image: Image.Image | None = None, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if image is None:
        pixels = np.random.default_rng(len(path.name)).integers(256, size=(12, 20, 3), dtype=np.uint8)
        image = Image.fromarray(pixels)
    image.save(path, **options)
    return path


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return image


@pytest.fixture
def pets(tmp_path) -> Path:
    """Two classes, three images each, one test image each."""
    root = tmp_path / "pets"
    for name in ("cat", "dog"):
        for i in range(3):
            _save(root / "train" / name / f"{i}.png")
        _save(root / "val" / name / "0.jpg")
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("VAENAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _entries(cache: Path) -> list[Path]:
    return list((cache / "folders").iterdir()) if (cache / "folders").is_dir() else []


def test_real_jpegs(imagenet_mini):
    root = imagenet_mini / "imagenet-mini"
    data = load(str(root), image_size=32)
    assert data.name == "imagenet-mini"
    assert data.test is not None
    assert (len(data.train), len(data.test)) == (600, 200)
    assert (data.train.channels, data.train.image_size) == (3, 32)
    assert data.train.labels.bincount().tolist() == [60] * 10
    assert data.train.classes == data.test.classes == tuple(sorted(path.name for path in (root / "train").iterdir()))
    assert (data.mean, data.std) == pixel_statistics(data.train.parts[0])
    assert not data.skipped


def test_real_jpegs_of_all_sizes_and_greyscale(imagenet_mini):
    root = imagenet_mini / "imagenet-native"
    data = load(str(root))
    assert data.test is None
    assert (len(data.train), data.train.image_size) == (73, 64)
    paths = sorted(path for path in (root / "train").rglob("*.JPEG"))
    grey = [i for i, path in enumerate(paths) if _opened(path).mode == "L"]
    assert len(grey) == 7
    images, _ = data.train.batch(torch.tensor(grey))
    assert torch.equal(images[:, 0], images[:, 1])
    assert torch.equal(images[:, 0], images[:, 2])
    expected = ImageOps.fit(_opened(paths[5]).convert("RGB"), (64, 64), Image.Resampling.BILINEAR)
    assert np.array_equal(data.train.parts[0][5].permute(1, 2, 0).numpy(), np.asarray(expected))


def test_a_truncated_jpeg(imagenet_mini, pets):
    real = next((imagenet_mini / "imagenet-native").rglob("*.JPEG")).read_bytes()
    bad = pets / "train" / "cat" / "half.jpeg"
    bad.write_bytes(real[: len(real) // 2])
    with pytest.raises(UserError, match=f"{bad}: cannot read the image: .*truncated.*--skip-bad-images"):
        load(str(pets))
    data = load(str(pets), skip_bad_images=True)
    assert data.skipped == ("train/cat/half.jpeg",)
    assert len(data.train) == 6
    assert load(str(pets), skip_bad_images=True).skipped == data.skipped


def test_the_order_is_that_of_the_labels(pets, monkeypatch):
    monkeypatch.setattr(folder, "_CHUNK", 2)
    for i in range(3):
        _save(pets / "train" / "dog" / f"{i}.png", Image.new("RGB", (4, 4), (i, 0, 0)))
    data = load(str(pets), image_size=4)
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.train.parts[0][3:, 0, 0, 0].tolist() == [0, 1, 2]


def test_the_second_load_decodes_nothing(pets, cache, monkeypatch):
    first = load(str(pets))
    monkeypatch.setattr(folder, "_decode", None)
    again = load(str(pets))
    assert torch.equal(first.train.parts[0], again.train.parts[0])
    assert torch.equal(first.train.labels, again.train.labels)
    assert (first.mean, first.std, first.train.classes) == (again.mean, again.std, again.train.classes)
    assert len(_entries(cache)) == 1


def test_a_changed_file_is_decoded_again(pets, cache):
    load(str(pets))
    os.utime(pets / "train" / "cat" / "0.png", ns=(1, 1))
    load(str(pets))
    load(str(pets), image_size=16)
    (pets / "val" / "cat" / "0.jpg").rename(pets / "val" / "cat" / "1.jpg")
    load(str(pets))
    assert len(_entries(cache)) == 4


def test_rotated_by_exif(pets):
    image = Image.new("RGB", (8, 8), (0, 0, 0))
    image.paste((255, 255, 255), (0, 0, 8, 4))  # the upper half is white
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    _save(pets / "train" / "cat" / "0.png", image, exif=exif)
    data = load(str(pets), image_size=8)
    assert data.train.parts[0][0, 0, :, 0].tolist() == [0] * 4 + [255] * 4


def test_a_long_thin_image(pets):
    _save(pets / "train" / "cat" / "0.png", Image.new("RGB", (20_000, 1), (9, 8, 7)))
    assert load(str(pets)).train.parts[0][0, :, 30, 30].tolist() == [9, 8, 7]


def _large(path: Path) -> None:
    _save(path, Image.new("L", (5000, 3)))


def _huge(path: Path) -> None:
    _save(path, Image.new("L", (9000, 3)))


def _text(path: Path) -> None:
    path.write_text("no image")


def _deep(path: Path) -> None:
    _save(path, Image.fromarray(np.full((4, 4), 300, np.uint16)))


def _dangling(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_large, "5000×3 is more than 10000 pixels"),
        (_huge, "exceeds limit"),
        (_text, "cannot identify"),
        (_deep, "more than 8 bits"),
        (_dangling, "No such file"),
    ],
)
def test_unreadable_images(pets, cache, monkeypatch, spoil, why):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    bad = pets / "val" / "dog" / "bad.png"
    spoil(bad)
    with pytest.raises(UserError, match=f"{bad}: cannot read the image: .*{why}.*--skip-bad-images"):
        load(str(pets))
    assert not _entries(cache)
    assert load(str(pets), skip_bad_images=True).skipped == ("val/dog/bad.png",)


def test_a_class_whose_images_are_all_unreadable(pets):
    for path in (pets / "train" / "cat").iterdir():
        path.write_text("no image")
    with pytest.raises(UserError, match=f"{pets}/train/cat: none of its images can be read"):
        load(str(pets), skip_bad_images=True)


def test_an_empty_class(pets):
    (pets / "train" / "emu").mkdir()
    (pets / "train" / "emu" / "notes.txt").write_text("none yet")
    with pytest.raises(UserError, match=f"{pets}/train/emu: it has no images"):
        load(str(pets))


def test_one_class(tmp_path):
    _save(tmp_path / "train" / "cat" / "0.png")
    with pytest.raises(UserError, match=f"{tmp_path}/train: 1 class folders, at least 2 are needed"):
        load(str(tmp_path))


def test_no_class_and_no_train(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path}/train: no such folder"):
        load(str(tmp_path))
    (tmp_path / "train").mkdir()
    with pytest.raises(UserError, match=f"{tmp_path}/train: 0 class folders"):
        load(str(tmp_path))


def test_other_classes_in_val(pets):
    (pets / "val" / "dog").rename(pets / "val" / "emu")
    with pytest.raises(UserError, match=r"val: its classes differ .*extra \['emu'\], missing \['dog'\]"):
        load(str(pets))


def test_an_unreadable_folder(pets, monkeypatch):
    def refuse(_folder):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(folder, "find_classes", refuse)  # as root, no folder is unreadable
    with pytest.raises(UserError, match=f"{pets}/train: cannot read the folder: Permission denied"):
        load(str(pets))


@pytest.mark.parametrize("size", [0, -3, 1025])
def test_image_sizes(pets, size):
    with pytest.raises(UserError, match=f"image size {size}: choose from 1 to 1024"):
        load(str(pets), image_size=size)


def test_a_full_disk_leaves_nothing(pets, cache, monkeypatch):
    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(UserError, match=f"cannot write {cache}/folders/[0-9a-f]+: No space left on device"):
        load(str(pets))
    assert not _entries(cache)


def test_a_really_full_disk(pets, monkeypatch):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    monkeypatch.setattr(folder, "_decode_all", lambda *_: Path("/dev/full").write_bytes(b"x"))
    with pytest.raises(UserError, match="No space left on device"):
        load(str(pets))


def test_a_cache_that_cannot_be_made(pets, cache):
    cache.write_text("a file, not a folder")
    with pytest.raises(UserError, match=f"cannot write {cache}/folders/[0-9a-f]+: Not a directory"):
        load(str(pets))


@pytest.mark.parametrize("name", ["train-images.bin", "val-labels.npy", "about.json"])
def test_a_damaged_cache(pets, cache, name):
    load(str(pets))
    (entry,) = _entries(cache)
    (entry / name).write_bytes((entry / name).read_bytes()[:-7])
    with pytest.raises(UserError, match=f"{entry}: the cached images are damaged .*; delete this folder"):
        load(str(pets))


def test_the_quicker_process_wins(pets, cache, monkeypatch):
    decode = folder._decode_all

    def overtaken(target, *args):
        monkeypatch.setattr(folder, "_decode_all", decode)
        if not _entries(cache)[1:]:
            load(str(pets))
        return decode(target, *args)

    monkeypatch.setattr(folder, "_decode_all", overtaken)
    assert len(load(str(pets)).train) == 6
    assert len(_entries(cache)) == 1
