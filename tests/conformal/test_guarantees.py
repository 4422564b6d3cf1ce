"""Bounds that follow from n, B and α."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.conformal.guarantees import lab_psnr_lower_bound_db, leakage_bound, minimal_n


class TestMinimalN:
    @given(st.floats(1e-4, 2), st.floats(0.1, 3))
    def test_is_the_smallest(self, alpha, bound):
        """n suffices by the definition B/(n + 1) ≤ α, n − 1 does not."""
        n = minimal_n(alpha, bound)
        assert bound / (n + 1) <= alpha
        assert n == 0 or bound / n > alpha

    @pytest.mark.parametrize("alpha", [1e-17, 1e-300, 5e-324])
    def test_a_tiny_alpha_needs_an_astronomic_number(self, alpha):
        """The number is exact however large, and found at once."""
        n = minimal_n(alpha, 1.9576)
        assert Fraction(1.9576) / (n + 1) <= Fraction(alpha) < Fraction(1.9576) / n

    @pytest.mark.parametrize("alpha", [0, -1, math.nan, math.inf])
    def test_refuses_alpha_without_meaning(self, alpha):
        """No number of images is enough for α ≤ 0."""
        with pytest.raises(ValueError, match="positive"):
            minimal_n(alpha, 1.0)


def test_the_leakage_bound():
    """α(n + 1)/(n_new + 1), at most B; without leakage it is α."""
    assert leakage_bound(0.1, 100, 0, 3.0) == pytest.approx(0.1)
    assert leakage_bound(0.1, 99, 50, 3.0) == pytest.approx(0.1 * 100 / 50)
    assert leakage_bound(0.1, 99, 99, 3.0) == 3.0
    with pytest.raises(ValueError, match="n_leaked"):
        leakage_bound(0.1, 5, 6, 3.0)


def test_the_bound_on_the_psnr():
    """−20 log10(0.1) + 10 log10(3) = 24.77 dB; a certainly perfect mask has no finite PSNR."""
    assert lab_psnr_lower_bound_db(0.1) == pytest.approx(24.7712, abs=1e-4)
    assert lab_psnr_lower_bound_db(0) is None
