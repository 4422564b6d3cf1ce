from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
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
    def test_spans(self, plan, length):
        """They partition the axis, have a full halo or reach the border, and are equally long."""
        spans = plan.spans(length)
        assert (spans[0].first, spans[-1].last) == (0, length)
        assert all(a.last == b.first for a, b in itertools.pairwise(spans))
        for span in spans:
            assert span.first < span.last
            assert 0 <= span.start <= max(0, span.first - plan.halo)
            assert length >= span.stop >= min(length, span.last + plan.halo)
        (size,) = {span.stop - span.start for span in spans}
        assert size <= plan.tile
        # An odd width costs bfloat16 half as long again.
        assert len(spans) == 1 or size % 4 == 0 or size == plan.tile

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
