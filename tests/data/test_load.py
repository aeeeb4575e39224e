import time
from pathlib import Path

import pytest
import torch
from torch import nn

from vaenas.data import builtin
from vaenas.data.cache import cache_dir
from vaenas.data.load import load
from vaenas.data.settings import DataSettings
from vaenas.errors import UserError


def test_builtin():
    start = time.process_time()
    data = load(DataSettings())
    assert time.process_time() - start < 0.5
    assert data.name == "builtin"
    assert data.test is not None
    assert len(data.train.classes) == 10
    assert data.train.labels.bincount().tolist() == [1000] * 10
    assert data.test.labels.bincount().tolist() == [200] * 10
    assert (data.train.channels, data.train.image_size) == (1, 28)
    assert (data.mean, data.std) == (pytest.approx((0.2867,), abs=1e-3), pytest.approx((0.3534,), abs=1e-3))


def test_builtin_images_are_not_repeated():
    data = load(DataSettings())
    assert data.test is not None
    images = torch.cat([data.train.images, data.test.images]).flatten(1)
    # Fashion-MNIST itself has some duplicates.
    assert len({row.numpy().tobytes() for row in images}) > 11_980


def test_builtin_is_small_and_licensed():
    assert builtin.FILE.stat().st_size < 6_000_000
    assert "Zalando SE" in (builtin.FILE.parent / "LICENSE-Fashion-MNIST.txt").read_text()


def test_damaged_builtin(tmp_path, monkeypatch):
    content = bytearray(builtin.FILE.read_bytes())
    content[1000] ^= 1
    path = tmp_path / "damaged.npz"
    path.write_bytes(content)
    monkeypatch.setattr(builtin, "FILE", path)
    with pytest.raises(UserError, match=r"damaged\.npz: sha256 is \w+, not 0788\w+: the file is damaged; reinstall"):
        load(DataSettings())
    path.unlink()
    with pytest.raises(UserError, match=r"damaged\.npz: cannot read the built-in images: No such file"):
        load(DataSettings())


@pytest.mark.parametrize("source", ["", "cifar100", "/nowhere/at/all"])
def test_unknown_source(source):
    with pytest.raises(UserError, match="choose builtin, cifar10, or a folder") as caught:
        load(DataSettings(source))
    assert repr(source) in str(caught.value)


@pytest.mark.parametrize(("source", "own"), [("builtin", 28), ("cifar10", 32)])
def test_fixed_image_sizes(source, own):
    with pytest.raises(UserError, match=f"image size 64: {source} has {own} pixels"):
        load(DataSettings(source, image_size=64))


def test_own_image_size_may_be_named():
    assert load(DataSettings("builtin", image_size=28)).train.image_size == 28


def test_root_is_for_cifar10(tmp_path):
    with pytest.raises(UserError, match="only the source cifar10 has a root"):
        load(DataSettings("builtin", root=str(tmp_path)))


def test_cache_dir(monkeypatch):
    monkeypatch.setenv("VAENAS_CACHE", "~/elsewhere")
    assert cache_dir() == Path.home() / "elsewhere"
    monkeypatch.delenv("VAENAS_CACHE")
    assert cache_dir() == Path.home() / ".cache/vaenas"


def test_fewer_pixels_are_means_over_areas():
    whole, half = load(DataSettings()).train, load(DataSettings("builtin", image_size=14))
    rows = torch.tensor([0, 777, len(whole) - 1])
    pixels, labels = whole.batch(rows)
    means = nn.functional.avg_pool2d(pixels.float(), 2).round().to(torch.uint8)
    torch.testing.assert_close(half.train.batch(rows), (means, labels))
    assert (half.train.image_size, half.test and half.test.image_size) == (14, 14)
    assert half.std < load(DataSettings()).std  # of the smaller images themselves


def test_a_cache_in_nobodys_home_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAENAS_CACHE", "~nosuchuser/cache")
    with pytest.raises(UserError, match=r"cache ~nosuchuser/cache: .* set VAENAS_CACHE to a folder"):
        cache_dir()
