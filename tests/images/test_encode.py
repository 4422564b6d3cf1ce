"""PNG files say exactly what the arrays say."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from app.images.encode import png_grey16, png_mask, png_rgb
from app.images.png import png
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


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([np.bool_, np.uint16, 3, 4]),
    st.integers(1, 40),
    st.one_of(st.integers(1, 40), st.integers(30_000, 30_020)),
    st.integers(0, 9),
)
def test_every_size(kind, height, width, seed):
    """Strips of many rows and of one, bits that fill no byte, and noise come back exactly."""
    channels = () if isinstance(kind, type) else (kind,)
    values = np.random.default_rng(seed).integers(0, 65536, (height, width, *channels))
    values = values % 3 == 0 if kind is np.bool_ else values.astype(np.uint8 if channels else kind)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png(values)))), values)
