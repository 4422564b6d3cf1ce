"""Normalised Lab against scikit-image."""

from __future__ import annotations

import numpy as np
import pytest

from app.conformal.lab import lab_block, normalised_lab
from tests.conformal.oracle import lab64


def colours(count, top):
    return np.random.default_rng(top).integers(0, top, (count, 500, 3), dtype=np.uint8)


@pytest.mark.parametrize("top", [256, 24])
def test_is_within_the_stated_distance_of_the_formula(top):
    """The largest difference from float64 scikit-image is below 1.9e-5, dark colours included."""
    rgb = colours(400, top)
    assert np.abs(normalised_lab(rgb) - lab64(rgb)).max() < 1.9e-5


def test_stays_in_the_unit_cube():
    """The corners of the sRGB cube, black included, lie in [0, 1]."""
    corners = np.array(np.meshgrid(*[[0, 255]] * 3), np.uint8).T.reshape(2, 4, 3)
    lab = normalised_lab(corners)
    assert lab.min() >= 0
    assert lab.max() <= 1 + 1e-6


def test_a_colour_has_the_same_bits_everywhere():
    """Position and block do not matter: one colour, one value."""
    rgb = np.tile(colours(1, 256)[:, :37], (997, 1, 1))
    lab = normalised_lab(rgb)
    assert (lab == lab[:, :1]).all()
    single = np.empty((3, 1), np.float32)
    lab_block(rgb[0, 5:6], single)
    np.testing.assert_array_equal(single[:, 0], lab[:, 0, 5])


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (0, 4, 3)])
def test_refuses_other_shapes(shape):
    """Only non-empty [H, W, 3] images are taken."""
    with pytest.raises(ValueError, match="H, W, 3"):
        normalised_lab(np.zeros(shape, np.uint8))
