"""The group of symmetries, the seeds that stand for its elements, and tiles."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from trustscale_server.upscalers.base import MAX_REQUEST_SEED
from trustscale_server.upscalers.embedded.tiles import TilePlan, run_tiled
from trustscale_server.upscalers.symmetries import DIHEDRAL, GROUP_ORDER, apply, sample_seeds, undo

elements = st.integers(0, GROUP_ORDER - 1)
sides = st.integers(1, 6)
images = st.tuples(sides, sides, st.just(3)).flatmap(lambda shape: arrays(np.uint8, shape))


def noise(height=3, width=5):
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


def key(image):
    return image.shape, image.tobytes()


def test_group():
    image = noise()
    assert np.array_equal(apply(image, 0), image)
    orbit = {key(apply(image, element)) for element in range(GROUP_ORDER)}
    products = {
        key(apply(apply(image, first), second))
        for first in range(GROUP_ORDER)
        for second in range(GROUP_ORDER)
    }
    assert len(orbit) == GROUP_ORDER
    assert products == orbit


@given(images, elements)
def test_undo_inverse(image, element):
    """Each takes the other back, bit for bit; odd quarter turns alone swap the sides."""
    there = apply(image, element)
    height, width, _ = image.shape
    assert there.shape == ((width, height, 3) if element % 2 else image.shape)
    back = undo(there, element)
    assert (back.dtype, back.flags.c_contiguous) == (np.uint8, True)
    assert np.array_equal(back, image)
    assert np.array_equal(apply(undo(image, element), element), image)


request_seeds = st.integers(0, MAX_REQUEST_SEED)


class TestSampleSeeds:
    @given(request_seeds, st.integers(1, 300), st.integers(1, 300))
    def test_distinct_in_range_and_a_prefix_of_more(self, seed, first, second):
        few, many = sorted([first, second])
        seeds = sample_seeds(seed, many)
        assert len(set(seeds)) == len(seeds) == many
        assert all(1 <= value < 2**31 for value in seeds)
        assert seeds[:few] == sample_seeds(seed, few)

    @given(request_seeds)
    def test_elements(self, seed):
        """96 seeds stand for the 96 group elements, each once, the eight dihedral ones first."""
        elements = [value % GROUP_ORDER for value in sample_seeds(seed, GROUP_ORDER)]
        assert sorted(elements[:DIHEDRAL]) == list(range(DIHEDRAL))
        assert sorted(elements) == list(range(GROUP_ORDER))

    def test_known_values(self):
        """The rule is frozen: these seeds are part of every stored result."""
        seeds = sample_seeds(0, 3)
        assert seeds == [1628312642, 2023172452, 104360739]
        assert [value % GROUP_ORDER for value in seeds] == [2, 4, 3]


plans = st.tuples(st.integers(1, 40), st.integers(0, 12)).map(
    lambda drawn: TilePlan(tile=drawn[0] + 2 * drawn[1], halo=drawn[1])
)


def blur_then_double(radius):
    """A toy upscaler x2 whose output depends on a square of exactly that radius; zero borders."""

    def function(image):
        blurred = ndimage.maximum_filter(
            image, size=(2 * radius + 1, 2 * radius + 1, 1), mode="constant"
        )
        return blurred.repeat(2, axis=0).repeat(2, axis=1)

    return function


@given(plans, st.integers(1, 500))
def test_tile_plan_spans(plan, length):
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


@given(plans, st.integers(1, 90), st.integers(1, 90))
def test_tiled_equals_whole(plan, height, width):
    """With a halo of the function's radius: the same bytes, from tiles of one shape."""
    function, image, shapes = blur_then_double(plan.halo), noise(height, width), set()

    def noted(window):
        shapes.add(window.shape)
        assert window.flags.c_contiguous
        return function(window)

    assert np.array_equal(run_tiled(noted, image, 2, plan), function(image))
    assert len(shapes) == 1
