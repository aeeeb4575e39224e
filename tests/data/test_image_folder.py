import contextlib
import errno
import hashlib
import math
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from vaenas.data import decode, folder, images
from vaenas.data.images import pixel_statistics
from vaenas.data.load import load
from vaenas.data.settings import DataSettings
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
    data = load(DataSettings(str(root), image_size=32))
    assert data.name == "imagenet-mini"
    assert data.test is not None
    assert (len(data.train), len(data.test)) == (600, 200)
    assert (data.train.channels, data.train.image_size) == (3, 32)
    assert data.train.labels.bincount().tolist() == [60] * 10
    assert data.train.classes == data.test.classes == tuple(sorted(path.name for path in (root / "train").iterdir()))
    assert (data.mean, data.std) == pixel_statistics(data.train.images)
    assert not data.skipped


def test_real_jpegs_of_all_sizes_and_greyscale(imagenet_mini):
    root = imagenet_mini / "imagenet-native"
    data = load(DataSettings(str(root)))
    assert data.test is None
    assert (len(data.train), data.train.image_size) == (73, 64)
    paths = sorted(path for path in (root / "train").rglob("*.JPEG"))
    grey = [i for i, path in enumerate(paths) if _opened(path).mode == "L"]
    assert len(grey) == 7
    images, _ = data.train.batch(torch.tensor(grey))
    assert torch.equal(images[:, 0], images[:, 1])
    assert torch.equal(images[:, 0], images[:, 2])
    expected = ImageOps.fit(_opened(paths[5]).convert("RGB"), (64, 64), Image.Resampling.BILINEAR)
    assert np.array_equal(data.train.images[5].permute(1, 2, 0).numpy(), np.asarray(expected))


def test_a_truncated_jpeg(imagenet_mini, pets):
    real = next((imagenet_mini / "imagenet-native").rglob("*.JPEG")).read_bytes()
    bad = pets / "train" / "cat" / "half.jpeg"
    bad.write_bytes(real[: len(real) // 2])
    with pytest.raises(UserError, match=f"{bad}: cannot read the image: .*truncated.*--skip-bad-images"):
        load(DataSettings(str(pets)))
    data = load(DataSettings(str(pets), skip_bad_images=True))
    assert data.skipped == ("train/cat/half.jpeg",)
    assert len(data.train) == 6
    assert load(DataSettings(str(pets), skip_bad_images=True)).skipped == data.skipped


def test_the_order_is_that_of_the_labels(pets, monkeypatch):
    monkeypatch.setattr(folder, "_CHUNK", 2)
    for i in range(3):
        _save(pets / "train" / "dog" / f"{i}.png", Image.new("RGB", (4, 4), (i, 0, 0)))
    data = load(DataSettings(str(pets), image_size=4))
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.train.images[3:, 0, 0, 0].tolist() == [0, 1, 2]


def test_the_second_load_decodes_nothing(pets, cache, monkeypatch):
    first = load(DataSettings(str(pets)))
    monkeypatch.setattr(images, "Decoder", None)
    again = load(DataSettings(str(pets)))
    assert torch.equal(first.train.images, again.train.images)
    assert torch.equal(first.train.labels, again.train.labels)
    assert (first.mean, first.std, first.train.classes) == (again.mean, again.std, again.train.classes)
    assert len(_entries(cache)) == 1


def test_a_changed_file_is_decoded_again(pets, cache):
    load(DataSettings(str(pets)))
    os.utime(pets / "train" / "cat" / "0.png", ns=(1, 1))
    load(DataSettings(str(pets)))
    load(DataSettings(str(pets), image_size=16))
    (pets / "val" / "cat" / "0.jpg").rename(pets / "val" / "cat" / "1.jpg")
    load(DataSettings(str(pets)))
    assert len(_entries(cache)) == 4


@pytest.mark.parametrize("workers", [0, 1])
def test_the_fingerprint_sees_content(pets, workers):
    """Each change keeps the names, the sizes and all else that a listing shows but the time."""
    files = sorted((pets / "train").rglob("*.png"))
    for i, path in enumerate(files):
        path.write_bytes(_save(path, Image.new("RGB", (4, 4), (i, 1, 1))).read_bytes())
    seen = [load(DataSettings(str(pets), workers=workers)).fingerprint()]
    assert load(DataSettings(str(pets), workers=workers)).fingerprint() == seen[0]
    for change in ("swap", "black", "test"):
        if change == "swap":
            one, other = files[0].read_bytes(), files[-1].read_bytes()
            files[0].write_bytes(other)
            files[-1].write_bytes(one)
        else:
            _save(files[1] if change == "black" else pets / "val" / "cat" / "0.jpg", Image.new("RGB", (4, 4)))
        seen.append(load(DataSettings(str(pets), workers=workers)).fingerprint())
    assert len(set(seen)) == 4
    os.utime(files[0])  # touched, not changed
    assert load(DataSettings(str(pets), workers=workers)).fingerprint() == seen[-1]


def test_the_same_files_are_read_once(pets, cache, monkeypatch):
    first = load(DataSettings(str(pets), workers=1)).fingerprint()
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", None)
        assert load(DataSettings(str(pets), workers=1)).fingerprint() == first
        shutil.rmtree(cache)
        cache.touch()
        with pytest.raises(UserError, match=f"cannot write {cache}/digests/.*set VAENAS_CACHE to another folder"):
            load(DataSettings(str(pets), workers=1)).fingerprint()  # found before anything is read


def _palette(image: Image.Image) -> Image.Image:
    shown = image.convert("L").convert("P")
    shown.info["transparency"] = bytes([0] * 128 + [255] * 128)
    return shown


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(("background", "value"), [("white", 255), ("black", 0), ("grey", 128)])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_images(pets, capsys, mode, background, value, workers):
    """A shape on transparency, all of whose colours are black without it."""
    image = Image.new("RGBA", (8, 8), (200, 200, 200, 255))
    image.paste((0, 0, 0, 0), (0, 0, 8, 4))
    _save(pets / "train" / "cat" / "0.png", _palette(image) if mode == "P" else image.convert(mode))
    _save(pets / "train" / "cat" / "1.png", Image.new("RGBA", (8, 8), (1, 2, 3, 255)))  # opaque
    data = load(DataSettings(str(pets), image_size=8, background=background, workers=workers))
    pixels, _ = data.train.batch(torch.arange(2))
    assert pixels[0, 0, :, 0].tolist() == [value] * 4 + [200] * 4
    assert pixels[1, :, 0, 0].tolist() == [1, 2, 3]
    assert data.notes == (f"1 transparent images are put on {background} (--data.background)",)
    assert capsys.readouterr().err.count("transparent,") == (1 if workers else 0)


@pytest.mark.parametrize("ending", [*decode.ENDINGS, ".GIF"])
def test_formats(pets, ending):
    image = Image.new("RGB", (8, 8), (250, 250, 250))
    _save(pets / "train" / "cat" / f"a{ending}", image.convert("L") if ending == ".pgm" else image)
    data = load(DataSettings(str(pets), image_size=8))
    assert len(data.train) == 7
    assert data.train.images[3].float().mean() == pytest.approx(250, abs=1)
    assert data.notes == ()


def test_the_first_frame_of_many(pets):
    frames = [Image.new("RGB", (8, 8), (level, level, level)) for level in (10, 200)]
    _save(pets / "train" / "cat" / "0.gif", frames[0], save_all=True, append_images=frames[1:])
    assert load(DataSettings(str(pets), image_size=8)).train.images[0].unique().tolist() == [10]


def test_what_is_left_out_is_said(pets):
    for name in ("._000.png", ".ipynb_checkpoints/x.png", "__MACOSX/cat/x.png", "Thumbs.db", "cat/.DS_Store"):
        _save(pets / "train" / name, Image.new("L", (4, 4)), format="PNG")
    for name in ("cat/a.svg", "cat/b.svg", "dog/c.heic", "dog/README", "loose.png"):
        _save(pets / "train" / name, Image.new("L", (4, 4)), format="PNG")
    (pets / "docs").mkdir()
    (pets / "README.md").touch()
    data = load(DataSettings(str(pets)))
    assert data.train.classes == ("cat", "dog")
    assert len(data.train) == 6
    assert data.notes == (
        "folders beside train/ that are not used: docs/",
        "left out: 5 hidden or the system's own, 2 .svg, 1 .png outside the class folders, 1 of no known kind, 1 .heic",
    )


@pytest.mark.parametrize(
    ("there", "used"),
    [
        (["val"], "val"),
        (["valid"], "valid"),
        (["validation"], "validation"),
        (["test"], "test"),
        (["test", "valid"], "valid"),
        (["test", "val", "validation"], "val"),
    ],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_names_of_the_test_part(pets, there, used, workers):
    (pets / "val").rename(pets / used)
    for other in there:
        if other != used:
            _save(pets / other / "cat" / "0.png")
    data = load(DataSettings(str(pets), workers=workers))
    assert data.test is not None
    assert len(data.test) == 2
    said = [f"{used}/ is the test part"] if used != "val" else []
    others = [f"{name}/" for name in there if name != used]
    said += [f"folders beside train/ that are not used: {', '.join(others)}"] if others else []
    assert list(data.notes) == said


def test_a_test_part_without_classes_is_not_used(pets):
    shutil.rmtree(pets / "val")
    _save(pets / "test" / "0.png")
    data = load(DataSettings(str(pets)))
    assert data.test is None
    assert data.notes == ("folders beside train/ that are not used: test/",)


@pytest.mark.parametrize(
    ("link", "target", "again"),
    [
        ("train/cat/loop", ".", 1),
        ("train/cat/loop", "..", 4),
        ("train/cat/held-out", "../../val", 2),
        ("train/dog/cats", "../cat", 3),
        ("train/dog/cat.png", "../cat/0.png", 1),
        ("val/dog/seen.png", "../../train/dog/0.png", 1),
    ],
)
def test_each_file_once(pets, link, target, again):
    before = load(DataSettings(str(pets)))
    (pets / link).symlink_to(target)
    data = load(DataSettings(str(pets)))
    assert data.fingerprint() == before.fingerprint()
    assert data.notes == (f"left out: {again} by links a second time",)


def test_links_out_of_the_folder_are_followed(pets, tmp_path):
    (pets / "train" / "cat").rename(tmp_path / "pool")
    (pets / "train" / "cat").symlink_to(tmp_path / "pool")
    _save(tmp_path / "more" / "deep" / "0.png")
    (pets / "train" / "dog" / "more").symlink_to(tmp_path / "more")
    data = load(DataSettings(str(pets)))
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert data.notes == ()


@pytest.mark.parametrize("name", ["a\nb", b"a\xffb"])
def test_names_that_cannot_be_printed(pets, name):
    target = os.fsencode(pets / "train" / "cat") + b"/" + os.fsencode(name) + b".png"
    with open(target, "wb") as file:
        file.write(b"no image")
    with pytest.raises(UserError, match="cannot read the image"):
        load(DataSettings(str(pets)))
    (skipped,) = load(DataSettings(str(pets), skip_bad_images=True)).skipped
    assert skipped.encode()
    os.rename(os.fsencode(pets / "train" / "dog"), os.fsencode(pets / "train") + b"/" + os.fsencode(name))
    with pytest.raises(UserError, match=r"train: the class 'a(\\n|\\udcff)b' has characters that cannot be printed"):
        load(DataSettings(str(pets)))


PEAK = """
import resource, sys
from vaenas.data.load import load
from vaenas.data.settings import DataSettings

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

before = peak()
print(int(load(DataSettings(sys.argv[1])).train.images[-1].max()), peak() - before)
"""


def test_large_images_take_bounded_memory(pets):
    """As many pixels as are allowed, of several formats at once; and more, which only JPEG can decode smaller."""
    side = math.isqrt(decode.MAX_PIXELS)
    black = Image.new("RGBA", (side, side))
    for name in ("a", "b"):
        black.save(pets / "train" / "cat" / f"{name}.png", compress_level=1)
    Image.new("L", (side + 1000, side + 1000), 77).save(pets / "train" / "dog" / "huge.jpg")
    done = subprocess.run([sys.executable, "-c", PEAK, str(pets)], capture_output=True, text=True, check=True)
    value, megabytes = map(int, done.stdout.split())
    assert value == 77
    assert megabytes < 512


@pytest.mark.parametrize(("side", "decoded"), [(10, 10), (11, 6), (20, 10), (21, 6), (41, 6), (80, 10), (81, None)])
def test_a_large_jpeg_is_decoded_as_small_as_it_must(tmp_path, monkeypatch, side, decoded):
    """At half, a quarter or an eighth of its size; beyond eight times the limit it is refused."""
    monkeypatch.setattr(decode, "MAX_PIXELS", 100)
    Image.new("L", (side, side), 77).save(tmp_path / "a.jpg")
    refused = pytest.raises(ValueError, match="81×81 is more") if decoded is None else contextlib.nullcontext()
    with refused, decode.open_rgb(tmp_path / "a.jpg", "white") as (image, _):
        assert (image.size, image.getpixel((0, 0))) == ((decoded, decoded), (77, 77, 77))


def test_rotated_by_exif(pets):
    image = Image.new("RGB", (8, 8), (0, 0, 0))
    image.paste((255, 255, 255), (0, 0, 8, 4))  # the upper half is white
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    _save(pets / "train" / "cat" / "0.png", image, exif=exif)
    data = load(DataSettings(str(pets), image_size=8))
    assert data.train.images[0, 0, :, 0].tolist() == [0] * 4 + [255] * 4


def test_a_long_thin_image(pets):
    _save(pets / "train" / "cat" / "0.png", Image.new("RGB", (20_000, 1), (9, 8, 7)))
    assert load(DataSettings(str(pets))).train.images[0, :, 30, 30].tolist() == [9, 8, 7]


def _large(path: Path) -> None:
    _save(path, Image.new("L", (5000, 3)))


def _huge(path: Path) -> None:
    _save(path, Image.new("L", (20_000, 3)))


def _text(path: Path) -> None:
    path.write_text("no image")


def _deep(path: Path) -> None:
    _save(path, Image.fromarray(np.full((4, 4), 300, np.uint16)))


def _dangling(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


def _to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def _empty(path: Path) -> None:
    path.touch()


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(path.parent):
        server.bind(path.name)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _long(path: Path) -> None:
    path.write_bytes(bytes(10_001))


def _postscript(path: Path) -> None:
    """Pillow would start Ghostscript."""
    Image.new("RGB", (8, 8)).save(path, "EPS")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_large, "5000×3 is more than 10000 pixels"),
        (_huge, "exceeds limit"),
        (_text, "cannot identify"),
        (_deep, "more than 8 bits"),
        (_dangling, "No such file"),
        (_to_itself, "Too many levels of symbolic links"),
        (_empty, "cannot identify"),
        (_postscript, "cannot identify it as one of BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP"),
        (os.mkfifo, "not a regular file"),
        (_socket, "not a regular file"),
        (_device, "not a regular file"),
        (_long, "10001 bytes are more than 10000"),
    ],
)
def test_unreadable_images(pets, cache, monkeypatch, spoil, why):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000)
    monkeypatch.setattr(decode, "MAX_PIXELS", 10_000)
    monkeypatch.setattr(decode, "MAX_BYTES", 10_000)
    bad = pets / "val" / "dog" / "bad.png"
    spoil(bad)
    with pytest.raises(UserError, match=f"{bad}: cannot read the image: .*{why}.*--skip-bad-images"):
        load(DataSettings(str(pets)))
    assert not _entries(cache)
    data = load(DataSettings(str(pets), skip_bad_images=True))
    assert data.skipped == ("val/dog/bad.png",)
    assert data.test is not None
    assert data.test.labels.tolist() == [0, 1]
    in_files = load(DataSettings(str(pets), workers=1))
    assert in_files.test is not None
    assert in_files.fingerprint()  # reads all files: what can't be read is no reason to stop
    with pytest.raises(UserError, match=f"{bad}: cannot read the image: .*{why}"):
        in_files.test.batch(torch.arange(3))


def test_a_class_whose_images_are_all_unreadable(pets):
    for path in (pets / "train" / "cat").iterdir():
        path.write_text("no image")
    with pytest.raises(UserError, match=f"{pets}/train/cat: none of its images can be read"):
        load(DataSettings(str(pets), skip_bad_images=True))


def test_an_empty_class(pets):
    (pets / "train" / "emu").mkdir()
    (pets / "train" / "emu" / "notes.txt").write_text("none yet")
    with pytest.raises(UserError, match=f"{pets}/train/emu: it has no images"):
        load(DataSettings(str(pets)))


def test_one_class(tmp_path):
    _save(tmp_path / "train" / "cat" / "0.png")
    with pytest.raises(UserError, match=f"{tmp_path}/train: 1 class folders, at least 2 are needed"):
        load(DataSettings(str(tmp_path)))


def test_no_class_and_no_train(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path}/train: no such folder"):
        load(DataSettings(str(tmp_path)))
    (tmp_path / "train").mkdir()
    with pytest.raises(UserError, match=f"{tmp_path}/train: 0 class folders"):
        load(DataSettings(str(tmp_path)))


def test_other_classes_in_val(pets):
    (pets / "val" / "dog").rename(pets / "val" / "emu")
    with pytest.raises(UserError, match=r"val: its classes differ .*extra \['emu'\], missing \['dog'\]"):
        load(DataSettings(str(pets)))


def test_an_unreadable_folder(pets, monkeypatch):
    scan = os.scandir

    def refuse(path):
        if path.endswith("cat"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)  # as root, no folder is unreadable
    with pytest.raises(UserError, match=f"{pets}/train/cat: cannot read the folder: Permission denied"):
        load(DataSettings(str(pets)))


@pytest.mark.parametrize("size", [0, -3, 1025])
def test_image_sizes(pets, size):
    with pytest.raises(UserError, match=f"image size {size}: choose from 1 to 1024"):
        load(DataSettings(str(pets), image_size=size))


def test_a_full_disk_leaves_nothing(pets, cache, monkeypatch):
    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(folder, "pixel_statistics", full)
    with pytest.raises(UserError, match=f"cannot write {cache}/folders/[0-9a-f]+: No space left on device"):
        load(DataSettings(str(pets)))
    assert not _entries(cache)


def test_a_really_full_disk(pets, monkeypatch):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    monkeypatch.setattr(folder, "_decode", lambda *_: Path("/dev/full").write_bytes(b"x"))
    with pytest.raises(UserError, match="No space left on device"):
        load(DataSettings(str(pets)))


def test_a_cache_that_cannot_be_made(pets, cache):
    cache.write_text("a file, not a folder")
    with pytest.raises(UserError, match=f"cannot write {cache}/folders/[0-9a-f]+: Not a directory"):
        load(DataSettings(str(pets)))


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _blacken(path: Path) -> None:
    """As a power cut does; the size stays."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))


def _other_mean(path: Path) -> None:
    path.write_text(re.sub(r'"mean":\[0', '"mean":[1', path.read_text()))


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("train-images.bin", _truncate),
        ("train-images.bin", _blacken),
        ("val-images.bin", Path.unlink),
        ("about.json", _truncate),
        ("about.json", _blacken),
        ("about.json", _other_mean),
        ("digest.json", _blacken),
    ],
)
def test_a_damaged_cache_is_made_again(pets, cache, name, spoil):
    before = load(DataSettings(str(pets)))
    pixels = before.train.images.clone()
    (entry,) = _entries(cache)
    spoil(entry / name)
    again = load(DataSettings(str(pets)))
    assert torch.equal(again.train.images, pixels)
    assert again.fingerprint() == before.fingerprint()
    assert _entries(cache) == [entry]


def test_a_damaged_cache_that_stays(pets, cache, monkeypatch):
    load(DataSettings(str(pets)))
    (entry,) = _entries(cache)
    _truncate(entry / "about.json")
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    with pytest.raises(UserError, match=f"{entry}: the cached images are damaged .*; delete this folder"):
        load(DataSettings(str(pets)))


def test_the_quicker_process_wins(pets, cache, monkeypatch):
    original = folder._decode

    def overtaken(*args):
        monkeypatch.setattr(folder, "_decode", original)
        if not _entries(cache)[1:]:
            load(DataSettings(str(pets)))
        return original(*args)

    monkeypatch.setattr(folder, "_decode", overtaken)
    assert len(load(DataSettings(str(pets))).train) == 6
    assert len(_entries(cache)) == 1
