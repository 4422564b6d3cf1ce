from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import ndimage

from app.upscalers.tiling import Stopped, TilePlan, run_tiled

plans = st.tuples(st.integers(1, 40), st.integers(0, 12)).map(
    lambda drawn: TilePlan(tile=drawn[0] + 2 * drawn[1], halo=drawn[1])
)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


def blur_then_double(radius: int):
    """A toy upscaler x2 whose output depends on a square of exactly that radius; zero borders."""

    def function(image: np.ndarray) -> np.ndarray:
        blurred = ndimage.maximum_filter(
            image, size=(2 * radius + 1, 2 * radius + 1, 1), mode="constant"
        )
        return blurred.repeat(2, axis=0).repeat(2, axis=1)

    return function


class TestTilePlan:
    @given(plans, st.integers(1, 500))
    def test_partition(self, plan, length):
        """The kept parts follow each other without gap or overlap, from 0 to the length."""
        spans = plan.spans(length)
        assert spans[0].first == 0
        assert spans[-1].last == length
        assert all(a.last == b.first for a, b in itertools.pairwise(spans))
        assert all(span.first < span.last for span in spans)

    @given(plans, st.integers(1, 500))
    def test_halo(self, plan, length):
        """Each tile reads a full halo around what it keeps, or to the border of the image."""
        for span in plan.spans(length):
            assert span.start <= max(0, span.first - plan.halo)
            assert span.stop >= min(length, span.last + plan.halo)
            assert 0 <= span.start < span.stop <= length

    @given(plans, st.integers(1, 500))
    def test_equal_lengths(self, plan, length):
        """All tiles have one length, which is at most the tile size."""
        lengths = {span.stop - span.start for span in plan.spans(length)}
        assert len(lengths) == 1
        assert lengths.pop() <= plan.tile

    def test_small_image_is_one_tile(self):
        """An image that fits is read once, whole."""
        assert len(TilePlan(288, 21).spans(288)) == 1

    @pytest.mark.parametrize(("tile", "halo"), [(42, 21), (0, 0), (10, -1)])
    def test_refused(self, tile, halo):
        """A tile that keeps nothing, or a negative halo, is refused."""
        with pytest.raises(ValueError, match="larger than its two halos"):
            TilePlan(tile, halo)


class TestRunTiled:
    @given(plans, st.integers(1, 90), st.integers(1, 90))
    def test_equals_whole(self, plan, height, width):
        """With a halo of the function's radius, tiled and whole are the same bytes."""
        function = blur_then_double(plan.halo)
        image = noise(height, width)
        assert np.array_equal(run_tiled(function, image, 2, plan), function(image))

    @given(st.integers(2, 8))
    def test_smaller_halo_shows(self, radius):
        """The test above can fail: one pixel less of halo changes the result."""
        function = blur_then_double(radius)
        image = np.zeros((64, 64, 3), np.uint8)
        plan = TilePlan(32, radius - 1)
        seam = plan.spans(64)[0].last
        assume(seam + radius - 1 < 64)
        image[seam + radius - 1] = 255  # just outside of the tile, still seen by the function
        assert not np.array_equal(run_tiled(function, image, 2, plan), function(image))

    def test_one_shape(self):
        """The function sees one shape only, however the image is cut."""
        shapes = set()

        def function(window: np.ndarray) -> np.ndarray:
            shapes.add(window.shape)
            assert window.flags.c_contiguous
            return window

        run_tiled(function, noise(101, 67), 1, TilePlan(32, 5))
        assert len(shapes) == 1

    def test_cancelled_before_the_next_tile(self):
        """After a cancellation no further tile is computed."""
        calls = 0

        def function(window: np.ndarray) -> np.ndarray:
            nonlocal calls
            calls += 1
            return window

        with pytest.raises(Stopped):
            run_tiled(function, noise(100, 100), 1, TilePlan(20, 2), lambda: calls == 3)
        assert calls == 3

    def test_wrong_shape(self):
        """A function that breaks its promise about the shape is found out."""
        with pytest.raises(ValueError, match="expected a tile"):
            run_tiled(lambda window: window[1:], noise(9, 9), 1, TilePlan(20, 2))
