from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from app.upscalers.seeds import DIHEDRAL, GROUP_ORDER
from app.upscalers.symmetry import apply, undo

elements = st.integers(0, GROUP_ORDER - 1)
sides = st.integers(1, 6)
images = st.tuples(sides, sides, st.just(3)).flatmap(lambda shape: arrays(np.uint8, shape))


def generic_image() -> np.ndarray:
    """An image without any symmetry of its own, [3, 5, 3]."""
    return np.random.default_rng(7).integers(0, 256, (3, 5, 3), dtype=np.uint8)


def key(image: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    return image.shape, image.tobytes()


class TestApply:
    @given(images)
    def test_identity(self, image):
        """Element 0 changes nothing."""
        assert np.array_equal(apply(image, 0), image)

    def test_distinct(self):
        """The 96 elements give 96 different images of an asymmetric image."""
        image = generic_image()
        assert len({key(apply(image, element)) for element in range(GROUP_ORDER)}) == GROUP_ORDER

    def test_closed(self):
        """Two elements one after the other are one element of the same group."""
        image = generic_image()
        orbit = {key(apply(image, element)) for element in range(GROUP_ORDER)}
        products = {
            key(apply(apply(image, first), second))
            for first in range(GROUP_ORDER)
            for second in range(GROUP_ORDER)
        }
        assert products == orbit

    def test_dihedral_keeps_colours(self):
        """Elements 0 to 7 only move pixels: the set of colours stays."""
        image = generic_image()
        colours = sorted(map(tuple, image.reshape(-1, 3)))
        for element in range(DIHEDRAL):
            assert sorted(map(tuple, apply(image, element).reshape(-1, 3))) == colours

    @given(images, elements)
    def test_sides(self, image, element):
        """An odd number of quarter turns swaps the sides; nothing else does."""
        height, width, _ = image.shape
        expected = (width, height, 3) if element % 2 else (height, width, 3)
        assert apply(image, element).shape == expected

    @given(elements)
    def test_acts_alike_on_both_types(self, element):
        """float32 in [0, 1] is transformed like uint8."""
        image = generic_image()
        as_float = apply(image.astype(np.float32) / 255, element)
        assert as_float.dtype == np.float32
        assert np.array_equal(np.rint(as_float * 255).astype(np.uint8), apply(image, element))

    @pytest.mark.parametrize("element", [-1, GROUP_ORDER])
    def test_element_outside(self, element):
        """An element outside the group is refused."""
        with pytest.raises(ValueError, match="0 to 95"):
            apply(generic_image(), element)

    @pytest.mark.parametrize(
        "image",
        [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), float)],
    )
    def test_wrong_image(self, image):
        """Grey, RGBA and float64 arrays are refused."""
        with pytest.raises(ValueError, match="uint8 or float32"):
            apply(image, 1)


class TestUndo:
    @given(images, elements)
    def test_left_inverse(self, image, element):
        """undo(apply(x, e), e) is x, bit for bit."""
        back = undo(apply(image, element), element)
        assert back.dtype == np.uint8
        assert back.flags.c_contiguous
        assert np.array_equal(back, image)

    @given(images, elements)
    def test_right_inverse(self, image, element):
        """apply(undo(x, e), e) is x, bit for bit."""
        assert np.array_equal(apply(undo(image, element), element), image)

    @given(
        arrays(np.float32, (3, 2, 3), elements=st.floats(0, 1, width=32)),
        elements,
    )
    def test_float_rounding(self, image, element):
        """For float32 the round trip errs by half a unit in the last place of 1 at most."""
        assert np.abs(undo(apply(image, element), element) - image).max() <= 2**-25

    @given(images, elements, st.integers(1, 4))
    def test_commutes_with_replication(self, image, element, scale):
        """A nearest-neighbour upscaler is symmetric: every element gives the same output."""

        def nearest(x: np.ndarray) -> np.ndarray:
            return x.repeat(scale, axis=0).repeat(scale, axis=1)

        assert np.array_equal(undo(nearest(apply(image, element)), element), nearest(image))
