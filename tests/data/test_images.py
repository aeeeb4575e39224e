import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from vaenas.data.images import ImageSet, pixel_statistics
from vaenas.data.subsets import split
from vaenas.errors import UserError


def _set(n: int, strided: bool = False) -> ImageSet:
    rng = torch.Generator().manual_seed(n)
    rows = torch.randint(256, (n, 1 + 2 * 3 * 3), generator=rng).to(torch.uint8)
    images = rows[:, 1:].unflatten(1, (2, 3, 3))
    return ImageSet(images if strided else images.contiguous(), torch.arange(n) % 3, ("a", "b", "c"))


@given(st.data(), st.integers(0, 12), st.booleans())
def test_a_batch_equals_naive_indexing(data, n, strided):
    images = _set(n, strided)
    rows = data.draw(st.lists(st.integers(0, n - 1), max_size=12) if n else st.just([]))
    indices = torch.tensor(rows, dtype=torch.int64)
    got, labels = images.batch(indices)
    assert torch.equal(got, images.images[indices])
    assert got.is_contiguous()
    assert torch.equal(labels, images.labels[indices])


def test_a_batch_is_a_copy():
    images = _set(4)
    before = images.images.clone()
    images.batch(torch.tensor([0, 1]))[0].zero_()
    assert torch.equal(images.images, before)


def test_sizes():
    images = _set(7)
    assert (len(images), images.channels, images.image_size) == (7, 2, 3)


@given(st.data(), st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 2**31))
def test_a_split_is_disjoint_stratified_and_exact(data, labels, seed):
    labels = torch.tensor(labels)
    counts = labels.bincount(minlength=5)
    holdout = data.draw(st.integers(0, len(labels) - int((counts > 0).sum())))
    train, held = split(labels, holdout, torch.Generator().manual_seed(seed))
    assert len(held) == holdout
    assert torch.equal(torch.cat([train, held]).sort().values, torch.arange(len(labels)))
    assert torch.equal(train, train.sort().values)
    assert torch.equal(held, held.sort().values)
    assert (labels[train].bincount(minlength=5) > 0).equal(counts > 0)


@pytest.mark.parametrize("holdout", [10, 25, 5000])
def test_a_split_of_balanced_classes_is_even(holdout):
    labels = torch.arange(10_000) % 10
    _, held = split(labels, holdout, torch.Generator().manual_seed(0))
    per_class = labels[held].bincount(minlength=10)
    assert int(per_class.max() - per_class.min()) <= (holdout % 10 > 0)


def test_a_split_keeps_the_proportions_of_classes():
    labels = torch.tensor([0] * 100 + [1] * 1000 + [2] * 50)
    _, held = split(labels, 115, torch.Generator().manual_seed(0))
    assert labels[held].bincount().tolist() == [10, 100, 5]


def test_a_split_follows_its_seed():
    labels = torch.arange(1000) % 10
    first, again, other = (split(labels, 100, torch.Generator().manual_seed(seed))[1] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("holdout", [-1, 19, 20, 21])
def test_an_impossible_split(holdout):
    labels = torch.tensor([0] * 10 + [3] * 10)
    with pytest.raises(UserError, match=f"cannot hold out {holdout} of 20 images: choose from 0 to 18"):
        split(labels, holdout, torch.Generator())


def test_pixel_statistics_in_chunks(monkeypatch):
    images = _set(11).images
    monkeypatch.setattr("vaenas.data.images._CHUNK_BYTES", 40)
    mean, std = pixel_statistics(images)
    pixels = images.double().transpose(0, 1).flatten(1) / 255
    assert mean == pytest.approx(pixels.mean(1).tolist())
    assert std == pytest.approx(pixels.std(1, correction=0).tolist())


def test_images_of_one_colour_can_be_normalised():
    mean, std = pixel_statistics(torch.full((2, 1, 3, 3), 51, dtype=torch.uint8))
    assert mean == pytest.approx((0.2,))
    assert std == (1 / 255,)
