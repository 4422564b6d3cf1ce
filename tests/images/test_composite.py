"""A picture inside its mask, something plain outside, and nothing of the fade inside."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from app.images.composite import composed, fading

FADE = 5


@pytest.fixture
def mask():
    """Blobs in more rows than one strip has."""
    noise = np.random.default_rng(1).normal(size=(560, 40))
    return ndimage.gaussian_filter(noise, 6) > 0.03


def test_inside_outside_and_between(mask):
    """Inside it is the picture to the bit, beyond the fade the rest, between both a mean."""
    random = np.random.default_rng(2)
    picture = random.integers(0, 256, (*mask.shape, 4), np.uint8)
    rest = Image.fromarray(random.integers(0, 256, (140, 10, 3), np.uint8))
    plain = np.asarray(rest.resize((40, 560), Image.Resampling.BICUBIC))
    drawn = composed(picture, mask, rest, FADE)
    np.testing.assert_array_equal(drawn[mask], picture[mask])
    np.testing.assert_array_equal(drawn[..., 3], picture[..., 3])
    away = ndimage.distance_transform_edt(~mask)
    beyond, beside = away >= FADE + 1, ~mask & (away < FADE + 1)
    assert beyond.any()
    np.testing.assert_array_equal(drawn[beyond][:, :3], plain[beyond])
    low, high = np.minimum(picture[..., :3], plain), np.maximum(picture[..., :3], plain)
    assert ((low <= drawn[..., :3]) & (drawn[..., :3] <= high))[beside].all()
    share = fading(mask, FADE)[..., None]  # of all rows at once: strips leave no seam
    whole = np.rint(picture[..., :3] * share + plain * (1 - share))
    np.testing.assert_array_equal(drawn[..., :3], whole)


def test_the_fade_falls_with_the_distance(mask):
    """1 in the mask, less with every pixel beside it, 0 beyond; 0 everywhere without a mask."""
    share, away = fading(mask, FADE), ndimage.distance_transform_edt(~mask)
    assert (share[mask] == 1).all()
    assert (share[away >= FADE + 1] == 0).all()
    by_distance = share.ravel()[np.argsort(away, axis=None, kind="stable")]
    assert (np.diff(by_distance) <= 0).all()
    assert (fading(np.zeros_like(mask), FADE) == 0).all()
