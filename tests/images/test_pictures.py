"""Files and overlays that are drawn, and pictures that are enlarged, reduced and put together."""

import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy import ndimage

from trustscale_server.images.encoding.overlay import composed, fading, overlay
from trustscale_server.images.encoding.png import to_png
from trustscale_server.pixels.resize import largest_within, size_within
from trustscale_server.sampling.enlarged import Enlarged


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([np.bool_, np.uint16, 3, 4]),
    st.integers(1, 40),
    st.one_of(st.integers(1, 40), st.integers(30_000, 30_020)),
    st.integers(0, 9),
)
def test_every_size(kind, height, width, seed):
    channels = () if isinstance(kind, type) else (kind,)
    values = np.random.default_rng(seed).integers(0, 65536, (height, width, *channels))
    values = values % 3 == 0 if kind is np.bool_ else values.astype(np.uint8 if channels else kind)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(to_png(values)))), values)


@pytest.mark.parametrize("columns", [0, 10])
def test_trusted_pixels_are_untouched_and_others_are_hatched(columns):
    """Two of eight pixels outside the mask are drawn over, light and dark; the border is a line."""
    image = np.full((32, 32, 3), 128, np.uint8)
    mask = np.zeros(image.shape[:2], bool)
    mask[:, :columns] = True
    drawn = overlay(image, mask)
    assert (drawn[mask] == 128).all()
    inside = drawn[:, columns + 2 * bool(columns) :]
    for marks in (inside > 128, inside < 128):
        assert marks.mean() == pytest.approx(1 / 8, abs=0.02)
    if columns:
        assert (drawn[:, columns] > 240).all()
        assert (drawn[:, columns + 1, 1] < 30).all()
    assert (image == 128).all()


FADE = 5


@pytest.fixture
def mask():
    noise = np.random.default_rng(1).normal(size=(560, 40))
    return ndimage.gaussian_filter(noise, 6) > 0.03


def test_inside_outside_and_between(mask):
    random = np.random.default_rng(2)
    picture = random.integers(0, 256, (*mask.shape, 4), np.uint8)
    rest = Image.fromarray(random.integers(0, 256, (140, 10, 3), np.uint8))
    plain = np.asarray(rest.resize((40, 560), Image.Resampling.BICUBIC))
    drawn = composed(picture, mask, rest, FADE)
    np.testing.assert_array_equal(drawn[mask], picture[mask])
    np.testing.assert_array_equal(drawn[..., 3], picture[..., 3])
    beyond = ~ndimage.maximum_filter(mask, 2 * FADE + 1)
    assert beyond.any()
    np.testing.assert_array_equal(drawn[beyond][:, :3], plain[beyond])
    # Of all rows at once: strips leave no seam.
    share = fading(mask, FADE).astype(np.float64)[..., None] / 255
    whole = picture[..., :3] * share + plain * (1 - share)
    np.testing.assert_allclose(drawn[..., :3], whole, atol=1)


@pytest.mark.parametrize("fade", [1, 2, 5, 8, 64])
def test_fading(fade, mask):
    """It is whole in the mask, nothing beyond the fade, and never rises on the way."""
    mask = mask & (np.random.default_rng(3).random(mask.shape) > 0.3)
    share = fading(mask, fade)
    assert (share[mask] == 255).all()
    assert not share[~ndimage.maximum_filter(mask, 2 * fade + 1)].any()
    edge = fading(np.arange(200)[None].repeat(9, axis=0) < 60, fade)[4].astype(int)
    assert (np.diff(edge) <= 0).all()
    assert np.count_nonzero((edge > 0) & (edge < 255)) >= 1.8 * (fade // 2)


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 5, 7, 8, 16])
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
    size = size_within(there.shape[::-1], longest)
    small = Image.fromarray(there.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
    assert max(small.size) == longest
    covered = largest_within(there, small.height, small.width)
    assert not np.asarray(small)[~covered].any()
