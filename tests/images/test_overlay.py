"""The overlay shows what the mask says."""

from __future__ import annotations

import numpy as np
import pytest

from app.images.overlay import overlay
from tests.factories import photo


@pytest.mark.parametrize("columns", [0, 10, 32])
def test_trusted_pixels_are_untouched_and_others_are_tinted(columns):
    """Only pixels outside the mask change, and all of them, be it full, empty or in between."""
    image = photo()
    mask = np.zeros(image.shape[:2], bool)
    mask[:, :columns] = True
    drawn = overlay(image, mask)
    np.testing.assert_array_equal((drawn != image).any(axis=2), ~mask)
    assert drawn is not image
