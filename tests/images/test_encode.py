"""PNG files say exactly what the arrays say."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from app.images.encode import png_grey16, png_mask, png_rgb
from tests.factories import photo

TEXT = {"trustscale:alpha": "0.1", "Software": "trustscale"}


@pytest.mark.parametrize(
    ("write", "values", "header"),
    [
        (png_rgb, photo(), (8, 2)),
        (png_mask, photo()[..., 0] > 100, (1, 0)),
        (png_grey16, np.arange(65536, dtype=np.uint16).reshape(256, 256), (16, 0)),
    ],
)
def test_exact(write, values, header):
    """The pixels (True is white), the text, and the depth and colour type of the header."""
    data = write(values, TEXT)
    assert (data[24], data[25]) == header
    picture = Image.open(io.BytesIO(data))
    assert picture.text == TEXT
    np.testing.assert_array_equal(np.asarray(picture), values)
