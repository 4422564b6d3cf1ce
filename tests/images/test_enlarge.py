"""The enlarged input, of which only strips are ever there."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from app.images.enlarge import Enlarged


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("height", [1, 2, 9, 70])
def test_strips_leave_no_seam(scale, height):
    """Rows of any strip have the very bits that Pillow gives for the whole image."""
    rgb = np.random.default_rng(height).integers(0, 256, (height, 13, 3), np.uint8)
    size = (scale * 13, scale * height)
    whole = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC))
    enlarged = Enlarged(rgb, scale)
    assert enlarged.shape == whole.shape
    for rows in (1, 5, 17, 64, scale * height):
        for top in range(0, scale * height, rows):
            np.testing.assert_array_equal(enlarged[top : top + rows], whole[top : top + rows])
