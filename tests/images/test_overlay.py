"""The overlay shows what the mask says."""

from __future__ import annotations

import numpy as np

from app.images.overlay import overlay
from tests.factories import photo


def test_trusted_pixels_are_untouched_and_others_are_tinted():
    """Only pixels outside the mask change, all of them."""
    image = photo()
    mask = np.zeros(image.shape[:2], bool)
    mask[:, :10] = True
    drawn = overlay(image, mask)
    np.testing.assert_array_equal(drawn[mask], image[mask])
    assert (drawn[~mask] != image[~mask]).any(axis=1).all()
    assert drawn is not image


def test_full_and_empty_masks():
    """Everything trusted: the image itself. Nothing trusted: tinted everywhere."""
    image = photo()
    full = np.ones(image.shape[:2], bool)
    np.testing.assert_array_equal(overlay(image, full), image)
    assert (overlay(image, ~full) != image).any(axis=2).all()
