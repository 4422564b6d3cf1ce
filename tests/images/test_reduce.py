from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from app.images.reduce import largest_within, reduced

sides = st.integers(1, 40)


@given(st.data(), sides, sides)
def test_largest_within(data, height, width):
    """Every pixel of the reduction has the largest value that it covers, be it by a sliver."""
    values = data.draw(arrays(np.uint16, (height, width)))
    low, narrow = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    found = largest_within(values, low, narrow)
    for y in range(low):
        for x in range(narrow):
            rows = slice(math.floor(y * height / low), math.ceil((y + 1) * height / low))
            columns = slice(math.floor(x * width / narrow), math.ceil((x + 1) * width / narrow))
            assert found[y, x] == values[rows, columns].max()


@given(st.data(), sides, sides)
def test_nothing_else_is_seen(data, height, width):
    """A pixel of the reduced picture is made of nothing but what `largest_within` looks at."""
    y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    longest = data.draw(st.integers(1, max(height, width)))
    there = np.zeros((height, width), bool)
    there[y, x] = True
    small = reduced(Image.fromarray(there.astype(np.uint8) * 255), longest)
    assert max(small.size) == longest
    covered = largest_within(there, small.height, small.width)
    assert not np.asarray(small)[~covered].any()
