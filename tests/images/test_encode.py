"""PNG files say exactly what the arrays say."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from app.images.encode import png_grey16, png_mask, png_rgb
from tests.factories import photo

TEXT = {"trustscale:alpha": "0.1", "Software": "trustscale"}


def opened(data):
    return Image.open(io.BytesIO(data))


def test_rgb_is_8_bit_and_exact():
    """The image is an 8-bit RGB PNG with the same pixels and the text chunks."""
    picture = opened(png_rgb(photo(), TEXT))
    assert picture.mode == "RGB"
    assert picture.text == TEXT
    np.testing.assert_array_equal(np.asarray(picture), photo())


def test_mask_is_1_bit_white_is_true():
    """The mask is a 1-bit PNG; True is white."""
    mask = photo()[..., 0] > 100
    data = png_mask(mask, TEXT)
    assert data[24] == 1  # bit depth in the header
    assert data[25] == 0  # greyscale
    picture = opened(data)
    assert picture.text == TEXT
    np.testing.assert_array_equal(np.asarray(picture.convert("L")), np.where(mask, 255, 0))


def test_grey16_is_exact():
    """The trust level is a 16-bit grey PNG with the same values."""
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    data = png_grey16(values, TEXT)
    assert (data[24], data[25]) == (16, 0)
    np.testing.assert_array_equal(np.asarray(opened(data)), values)
