"""Is an image a sample of the input?"""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from app.upscalers.probe import pattern
from app.upscalers.remote.checks import alignment, is_unchanged
from tests.upscalers.remote.pictures import sample

K = 4
SOURCE = np.tile(pattern(), (2, 2, 1))[:160, :176]
GOOD = sample(SOURCE, 1, K)


def cropped(keep):
    height, width = GOOD.shape[:2]
    h, w = int(height * keep), int(width * keep)
    top, left = (height - h) // 2, (width - w) // 2
    part = Image.fromarray(GOOD[top : top + h, left : left + w])
    return np.asarray(part.resize((width, height), Image.Resampling.BICUBIC))


class TestAlignment:
    @pytest.mark.parametrize("shift", [(0, 0), (2, 0), (0, 2), (-2, 2)])
    def test_half_pixel_conventions(self, shift):
        """Half an input pixel, the usual disagreement about pixel centres, is tolerated."""
        found = alignment(SOURCE, np.roll(GOOD, shift, (0, 1)), K)
        assert found.problem is None
        assert found.displacement == pytest.approx(np.hypot(*shift) / K, abs=0.1)

    @pytest.mark.parametrize("shift", [(4, 0), (0, -4), (9, 5), (-40, 20)])
    def test_shift(self, shift):
        """A shift of one input pixel or more is refused, and measured to a pixel."""
        found = alignment(SOURCE, np.roll(GOOD, shift, (0, 1)), K)
        assert found.shift == pytest.approx(shift, abs=1)
        assert "shifted by" in found.problem

    @pytest.mark.parametrize("keep", [0.95, 0.9])
    def test_crop(self, keep):
        """A cropped and enlarged picture is refused, and its stretch measured."""
        found = alignment(SOURCE, cropped(keep), K)
        assert found.stretch == pytest.approx((1 / keep, 1 / keep), abs=0.03)
        assert "stretched by" in found.problem

    def test_something_else(self):
        """A picture of something else is refused."""
        noise = np.random.default_rng(0).integers(0, 256, GOOD.shape, np.uint8)
        assert alignment(SOURCE, noise, K).problem is not None

    def test_flat(self):
        """A flat input shows no displacement, so nothing is refused."""
        flat = np.full((64, 64, 3), 90, np.uint8)
        found = alignment(flat, np.full((128, 128, 3), 80, np.uint8), 2)
        assert (found.windows, found.problem) == (0, None)

    @pytest.mark.parametrize("shape", [(1, 1), (2, 9), (17, 64), (65, 16)])
    def test_small_and_narrow(self, shape):
        """Inputs of any shape are measured without an error."""
        source = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
        assert alignment(source, source.repeat(2, 0).repeat(2, 1), 2).problem is None

    def test_colour(self):
        """At scale 1, a coloured version of a grey picture is aligned."""
        grey = SOURCE.mean(axis=2).astype(np.uint8)
        coloured = np.stack([grey, grey // 2, 255 - grey // 3], -1)
        assert alignment(np.stack([grey] * 3, -1), coloured, 1).problem is None


class TestUnchanged:
    @pytest.mark.parametrize(
        "method",
        [Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC,
         Image.Resampling.LANCZOS],
    )  # fmt: skip
    def test_resized_input(self, method):
        """The input resized by a usual filter is no sample."""
        height, width = SOURCE.shape[:2]
        large = Image.fromarray(SOURCE).resize((width * K, height * K), method)
        assert is_unchanged(SOURCE, np.asarray(large), K)

    def test_sample(self):
        """Little noise makes the difference."""
        assert not is_unchanged(SOURCE, GOOD, K)

    def test_scale_one(self):
        """At scale 1 only the very same pixels are unchanged."""
        other = SOURCE.copy()
        other[0, 0, 0] ^= 1
        assert is_unchanged(SOURCE, SOURCE, 1)
        assert not is_unchanged(SOURCE, other, 1)

    def test_smooth_input(self):
        """Where a model has nothing to add, nobody can tell, and nothing is refused."""
        ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None, None], (64, 64, 3))
        large = Image.fromarray(np.ascontiguousarray(ramp)).resize((256, 256))
        assert not is_unchanged(np.ascontiguousarray(ramp), np.asarray(large), K)
