import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from vaenas.data.augment import Augment

MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)


def _images(b: int = 5, size: int = 9, seed: int = 0) -> torch.Tensor:
    return torch.randint(256, (b, 3, size, size), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def _slow(augment: Augment, images: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """One image and one pixel at a time, with the same random numbers."""
    b, c, h, w = images.shape
    p = augment.padding
    corners = torch.randint(2 * p + 1, (2, b), generator=rng) if p else torch.zeros(2, b, dtype=torch.int64)
    flips = torch.randint(2, (b,), generator=rng) if augment.flip else torch.zeros(b)
    if augment.cutout:
        centres = [(torch.randint(h, (b, 1), generator=rng)), torch.randint(w, (b, 1), generator=rng)]
    result = torch.zeros(b, c, h, w)
    for i in range(b):
        for y in range(h):
            for x in range(w):
                from_y = y + int(corners[0, i]) - p
                from_x = (w - 1 - x if flips[i] else x) + int(corners[1, i]) - p
                if not (0 <= from_y < h and 0 <= from_x < w):
                    continue
                if augment.cutout:
                    top, left = (int(centre[i]) - augment.cutout // 2 for centre in centres)
                    if top <= y < top + augment.cutout and left <= x < left + augment.cutout:
                        continue
                for k in range(c):
                    pixel = int(images[i, k, from_y, from_x]) / 255
                    result[i, k, y, x] = (pixel - augment.mean[k]) / augment.std[k]
    return result


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 4), st.booleans(), st.integers(0, 12), st.integers(0, 2**31))
def test_equals_a_slow_reference(padding, flip, cutout, seed):
    augment = Augment(MEAN, STD, padding, flip, cutout)
    images = _images(b=4, size=6, seed=seed)
    fast = augment(images, torch.Generator().manual_seed(seed))
    slow = _slow(augment, images, torch.Generator().manual_seed(seed))
    torch.testing.assert_close(fast, slow)


def test_all_off_only_normalises():
    augment = Augment(MEAN, STD, padding=0, flip=False, cutout=0)
    rng = torch.Generator().manual_seed(0)
    before = rng.get_state()
    assert torch.equal(augment(_images(), rng), augment.plain(_images()))
    assert torch.equal(rng.get_state(), before)


def test_plain_values():
    images = torch.tensor([0, 255, 51], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 3, 1, 1)
    values = Augment(MEAN, STD).plain(images)
    assert values.dtype == torch.float32
    assert values[:, 0].flatten().tolist() == pytest.approx([-2, 2, -1.2])
    assert values[1].flatten().tolist() == pytest.approx([2, 3, 0.7 / 0.3])


def test_follows_its_seed():
    augment = Augment(MEAN, STD, cutout=3)
    images = _images(b=32)
    first, again, other = (augment(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_half_of_the_images_are_flipped():
    images = _images(b=1).expand(1000, 3, 9, 9)
    augment = Augment(MEAN, STD, padding=0)
    plain = augment.plain(images)
    flipped = (augment(images, torch.Generator().manual_seed(0)) != plain).flatten(1).any(1)
    assert 400 < int(flipped.sum()) < 600


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_every_device_sees_the_same_numbers():
    augment = Augment(MEAN, STD, cutout=3)
    on_cpu = augment(_images(), torch.Generator().manual_seed(0))
    on_gpu = augment(_images().cuda(), torch.Generator().manual_seed(0))
    torch.testing.assert_close(on_gpu.cpu(), on_cpu)
