"""X from Y."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from app.images.degrade import Degradation, crop_to_multiple, degrade
from tests.factories import photo

Y = photo(0, 48, 64)


def test_the_default_is_plain_bicubic():
    """Pillow's antialiased bicubic reduction, nothing else."""
    expected = np.asarray(Image.fromarray(Y).resize((16, 12), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(degrade(Y, 4, Degradation(), 0), expected)


def test_scale_one_without_steps_changes_nothing():
    """k = 1 is the identity until a step is asked for."""
    np.testing.assert_array_equal(degrade(Y, 1, Degradation(), 0), Y)


def test_grey_drops_the_colour():
    """All three channels are equal."""
    grey = degrade(Y, 1, Degradation(grey=True), 0)
    assert (grey == grey[..., :1]).all()


def test_noise_follows_the_seed():
    """The same seed gives the same noise, of about the asked strength."""
    plain = degrade(Y, 2, Degradation(), 0).astype(int)
    noisy = degrade(Y, 2, Degradation(noise=5), 7)
    np.testing.assert_array_equal(noisy, degrade(Y, 2, Degradation(noise=5), 7))
    assert not np.array_equal(noisy, degrade(Y, 2, Degradation(noise=5), 8))
    assert 4 < (noisy - plain).std() < 6


def test_blur_and_jpeg_change_the_image_without_changing_its_size():
    """Each step does something and keeps the shape."""
    plain = degrade(Y, 2, Degradation(), 0)
    for step in (Degradation(blur=2), Degradation(jpeg=30)):
        changed = degrade(Y, 2, step, 0)
        assert changed.shape == plain.shape
        assert not np.array_equal(changed, plain)


def test_refuses_a_size_that_does_not_fit():
    """Sides that are no multiple of k are an error here; cropping is a decision of the caller."""
    with pytest.raises(ValueError, match="multiple"):
        degrade(Y[:47], 4, Degradation(), 0)
    assert crop_to_multiple(Y[:47, :63], 4).shape == (44, 60, 3)
