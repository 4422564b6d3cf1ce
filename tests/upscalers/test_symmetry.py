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

    def test_group(self):
        """The 96 elements differ, and two one after the other are one of the same group."""
        image = generic_image()
        orbit = {key(apply(image, element)) for element in range(GROUP_ORDER)}
        products = {
            key(apply(apply(image, first), second))
            for first in range(GROUP_ORDER)
            for second in range(GROUP_ORDER)
        }
        assert len(orbit) == GROUP_ORDER
        assert products == orbit

    def test_dihedral_keeps_colours(self):
        """Elements 0 to 7 only move pixels: the set of colours stays."""
        image = generic_image()
        colours = sorted(map(tuple, image.reshape(-1, 3)))
        for element in range(DIHEDRAL):
            assert sorted(map(tuple, apply(image, element).reshape(-1, 3))) == colours

    @given(elements)
    def test_acts_alike_on_both_types(self, element):
        """float32 in [0, 1] is transformed like uint8."""
        image = generic_image()
        as_float = apply(image.astype(np.float32) / 255, element)
        assert as_float.dtype == np.float32
        assert np.array_equal(np.rint(as_float * 255).astype(np.uint8), apply(image, element))

    @pytest.mark.parametrize(
        ("image", "element", "words"),
        [
            (generic_image(), -1, "0 to 95"),
            (generic_image(), GROUP_ORDER, "0 to 95"),
            (np.zeros((4, 4), np.uint8), 1, "uint8 or float32"),
            (np.zeros((4, 4, 4), np.uint8), 1, "uint8 or float32"),
            (np.zeros((4, 4, 3), float), 1, "uint8 or float32"),
        ],
    )
    def test_refused(self, image, element, words):
        """Elements outside the group; grey, RGBA and float64 arrays."""
        with pytest.raises(ValueError, match=words):
            apply(image, element)


class TestUndo:
    @given(images, elements)
    def test_inverse(self, image, element):
        """Each takes the other back, bit for bit; odd quarter turns alone swap the sides."""
        there = apply(image, element)
        height, width, _ = image.shape
        assert there.shape == ((width, height, 3) if element % 2 else image.shape)
        back = undo(there, element)
        assert (back.dtype, back.flags.c_contiguous) == (np.uint8, True)
        assert np.array_equal(back, image)
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
