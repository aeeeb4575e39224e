"""The real files, and small ones of the same layout for what can go wrong."""

import hashlib
import io
import re
import shutil
import tarfile
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch

from vaenas.data import cifar10
from vaenas.data.images import pixel_statistics
from vaenas.data.load import load
from vaenas.data.settings import DataSettings
from vaenas.errors import UserError

ROWS = 20
URL = re.escape(cifar10.URL)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("VAENAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def small(tmp_path, monkeypatch) -> Path:
    """A folder that passes for CIFAR-10, with ROWS rows a file."""
    folder = tmp_path / "small" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    md5 = {}
    for name in cifar10.MD5:
        rows = rng.integers(256, size=(ROWS, cifar10.ROW_BYTES), dtype=np.uint8)
        rows[:, 0] %= 10
        (folder / name).write_bytes(rows.tobytes())
        md5[name] = hashlib.md5(rows.tobytes()).hexdigest()
    monkeypatch.setattr(cifar10, "ROWS", ROWS)
    monkeypatch.setattr(cifar10, "MD5", md5)
    return folder


def _pack(folder: Path, archive: Path) -> Path:
    with tarfile.open(archive, f"w:{archive.suffix[1:]}" if archive.suffix != ".tar" else "w") as tar:
        tar.add(folder, "cifar-10-batches-bin")
    return archive


def _flip_a_bit(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


def test_the_real_archive(cifar10_archive, test_cache, monkeypatch):
    monkeypatch.setenv("VAENAS_CACHE", str(test_cache))
    data = load(DataSettings("cifar10", str(cifar10_archive.parent)))
    assert (data.name, data.train.classes[6], data.train.channels, data.train.image_size) == ("cifar10", "frog", 3, 32)
    assert data.test is not None
    assert data.train.labels.bincount().tolist() == [5000] * 10
    assert data.test.labels.bincount().tolist() == [1000] * 10
    mean, std = pixel_statistics(data.train.images)
    assert data.mean == pytest.approx(mean, abs=6e-5)
    assert data.std == pytest.approx(std, abs=6e-5)
    # The first image is a frog; row 40,000 is the first of the fifth file.
    unpacked = next((test_cache / "cifar10").glob("*/cifar-10-batches-bin"))
    raw = np.fromfile(unpacked / "data_batch_5.bin", np.uint8, cifar10.ROW_BYTES)
    images, labels = data.train.batch(torch.tensor([40_000, 0]))
    assert labels.tolist() == [raw[0], 6]
    assert np.array_equal(images[0].numpy().ravel(), raw[1:])


def test_a_flipped_bit_in_a_real_batch(cifar10_archive, test_cache, tmp_path, monkeypatch):
    monkeypatch.setenv("VAENAS_CACHE", str(test_cache))
    load(DataSettings("cifar10", str(cifar10_archive)))
    for real in next((test_cache / "cifar10").glob("*/cifar-10-batches-bin")).iterdir():
        if real.name == "data_batch_3.bin":
            shutil.copyfile(real, tmp_path / real.name)
        else:
            (tmp_path / real.name).symlink_to(real)
    _flip_a_bit(tmp_path / "data_batch_3.bin", 12_345_678)
    expected = f"{tmp_path}/data_batch_3.bin: md5 is \\w{{32}}, not 942cd6a4bcdd0dd3c604fbe906cb4421"
    with pytest.raises(UserError, match=expected):
        load(DataSettings("cifar10", str(tmp_path)))


def test_a_bit_flipped_in_a_small_batch(small):
    _flip_a_bit(small / "test_batch.bin", 0)
    found = hashlib.md5((small / "test_batch.bin").read_bytes()).hexdigest()
    expected = f"{small}/test_batch.bin: md5 is {found}, not {cifar10.MD5['test_batch.bin']}: the file is damaged"
    with pytest.raises(UserError, match=expected):
        load(DataSettings("cifar10", str(small)))


def test_a_truncated_batch(small):
    path = small / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:-1])
    size = ROWS * 3073
    with pytest.raises(UserError, match=f"{path}: {size - 1} bytes, not {size}: the file is damaged"):
        load(DataSettings("cifar10", str(small)))


def test_a_missing_batch(small):
    (small / "data_batch_4.bin").unlink()
    with pytest.raises(UserError, match=r"data_batch_4\.bin: cannot read it: No such file"):
        load(DataSettings("cifar10", str(small)))


@pytest.mark.parametrize("place", ["itself", "parent"])
def test_folders(small, place):
    data = load(DataSettings("cifar10", str(small if place == "itself" else small.parent)))
    assert len(data.train) == 5 * ROWS
    raw = np.fromfile(small / "data_batch_1.bin", np.uint8).reshape(ROWS, 3073)
    assert np.array_equal(data.train.batch(torch.arange(ROWS))[0].flatten(1).numpy(), raw[:, 1:])


@pytest.mark.parametrize("name", ["cifar-10-binary.tar.gz", "cifar-10-batches-bin.tar.xz", "cifar-10-batches-bin.tar"])
def test_an_archive_is_unpacked_once_into_the_cache(small, cache, tmp_path, name, monkeypatch):
    place = tmp_path / "place"
    place.mkdir()
    archive = _pack(small, place / name)
    first = load(DataSettings("cifar10", str(place)))
    monkeypatch.setattr(cifar10, "_unpack", None)
    again = load(DataSettings("cifar10", str(archive)))
    assert torch.equal(first.train.labels, again.train.labels)
    assert [path.name for path in place.iterdir()] == [name]
    assert len(list((cache / "cifar10").iterdir())) == 1


def test_paths_in_an_archive_lead_nowhere(small, cache, tmp_path):
    archive = tmp_path / "cifar.tar"
    with tarfile.open(archive, "w") as tar:
        for path in small.iterdir():
            tar.add(path, f"../../{path.name}")
        tar.addfile(tarfile.TarInfo("../../evil"), io.BytesIO())
    load(DataSettings("cifar10", str(archive)))
    assert not list(tmp_path.rglob("evil"))
    assert len(list(cache.rglob("*.bin"))) == 6


@pytest.mark.parametrize(
    ("kind", "size", "said"),
    [
        (tarfile.SYMTYPE, 0, "/data_batch_1.bin: cannot read it: No such file"),
        (tarfile.LNKTYPE, 0, "/data_batch_1.bin: cannot read it: No such file"),
        (tarfile.FIFOTYPE, 0, "/data_batch_1.bin: cannot read it: No such file"),
        (tarfile.REGTYPE, 10**15, ": not a whole tar archive"),
    ],
)
def test_hostile_members(small, cache, tmp_path, kind, size, said):
    """Links to files outside, and more bytes than a disk holds."""
    info = tarfile.TarInfo("data_batch_1.bin")
    info.type, info.linkname, info.size = kind, "/etc/passwd", size
    archive = tmp_path / "cifar.tar"
    archive.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    with pytest.raises(UserError, match=f"{archive}{said}"):
        load(DataSettings("cifar10", str(archive)))
    assert not list(cache.rglob("*.bin"))


def test_a_truncated_archive_leaves_nothing(small, cache, tmp_path):
    archive = _pack(small, tmp_path / "cifar-10-binary.tar.gz")
    archive.write_bytes(archive.read_bytes()[:-100_000])
    with pytest.raises(UserError, match=f"{archive}: not a whole tar archive"):
        load(DataSettings("cifar10", str(archive)))
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_a_file_that_is_no_archive(cache, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    with pytest.raises(UserError, match=f"{path}: not a whole tar archive"):
        load(DataSettings("cifar10", str(path)))


def test_an_archive_with_a_damaged_batch(small, cache, tmp_path):
    _flip_a_bit(small / "data_batch_5.bin", 5)
    archive = _pack(small, tmp_path / "cifar-10-batches-bin.tar")
    with pytest.raises(UserError, match=f"{archive}/data_batch_5.bin: md5 is"):
        load(DataSettings("cifar10", str(archive)))
    assert not list(cache.rglob("*.bin"))


def test_an_archive_without_batches(cache, tmp_path):
    archive = _pack(Path(__file__), tmp_path / "cifar-10-batches-bin.tar")
    with pytest.raises(UserError, match=f"{archive}/data_batch_1.bin: cannot read it: No such file"):
        load(DataSettings("cifar10", str(archive)))


def test_nothing_found(cache, tmp_path):
    with pytest.raises(UserError, match=f"no CIFAR-10 in {tmp_path}: looked for .*--data.download to fetch {URL}"):
        load(DataSettings("cifar10", str(tmp_path)))
    with pytest.raises(UserError, match=f"no CIFAR-10 in {cache}"):
        load(DataSettings("cifar10"))


def test_download(small, cache, tmp_path, monkeypatch):
    archive = _pack(small, tmp_path / "web.tar.gz")
    monkeypatch.setattr(cifar10, "URL", archive.as_uri())
    assert len(load(DataSettings("cifar10", download=True)).train) == 5 * ROWS
    assert [path.name for path in cache.iterdir()] == ["cifar-10-batches-bin"]
    archive.unlink()
    load(DataSettings("cifar10"))
    load(DataSettings("cifar10", str(tmp_path), download=True))


def test_a_broken_download(small, cache, tmp_path, monkeypatch):
    archive = _pack(small, tmp_path / "web.tar.gz")
    archive.write_bytes(archive.read_bytes()[:-100_000])
    monkeypatch.setattr(cifar10, "URL", archive.as_uri())
    with pytest.raises(UserError, match=f"{archive.as_uri()}: not a whole tar archive"):
        load(DataSettings("cifar10", download=True))
    assert not list(cache.iterdir())


def test_no_network(cache, monkeypatch):
    def refuse(*_args, **_options):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(UserError, match=f"cannot fetch {URL}: .*no route.*; fetch it elsewhere"):
        load(DataSettings("cifar10", download=True))
    assert not list(cache.iterdir())
