"""The risk curve, threshold, trust code and mask against brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.conformal import RiskCurve, Staircase

from . import oracle, strategies
from .strategies import ALPHAS, BOUND, CURVES, NEVER, staircases_of


def curve_of(images, bound=BOUND) -> RiskCurve:
    return RiskCurve.from_staircases(staircases_of(images), bound)


class TestRiskCurve:
    @given(strategies.images(), ALPHAS)
    def test_threshold_equals_brute_force(self, images, alpha):
        """t_α is the supremum that Algorithm 2 looks for, −∞ and +∞ included."""
        assert curve_of(images).threshold(alpha) == oracle.threshold(images, BOUND, alpha)

    @given(strategies.images(), strategies.maps(), ALPHAS)
    def test_mask_is_the_strict_rule(self, images, served, alpha):
        """The mask of a new image is {σ < t_α}."""
        sigma, _ = served
        mask = curve_of(images).mask(sigma, alpha)
        np.testing.assert_array_equal(mask, sigma < oracle.threshold(images, BOUND, alpha))

    @given(strategies.images(), strategies.maps(), ALPHAS)
    def test_trust_code_holds_the_masks_of_every_alpha(self, images, served, alpha):
        """{code ≤ α/B · 65534} is the mask, but for values within two codes of α; never larger."""
        sigma, _ = served
        curve = curve_of(images)
        allowed = curve.mask_of_code(curve.trust_code(sigma), alpha)
        if alpha < BOUND:
            told = curve.trust_code(sigma) <= math.floor(alpha / BOUND * 65534)
            np.testing.assert_array_equal(allowed, told)
        mask = curve.mask(sigma, alpha)
        assert not allowed[~mask].any()
        exact = np.vectorize(curve.risk, otypes=[np.float64])(sigma)
        close = np.abs(exact - alpha) <= 2 * BOUND / 65534
        np.testing.assert_array_equal(allowed[~close], mask[~close])

    @given(strategies.images(min_size=2), st.integers(0, 9))
    def test_the_order_of_images_does_not_matter(self, images, seed):
        """Any order gives the same curve, bit for bit."""
        order = np.random.default_rng(seed).permutation(len(images))
        one, other = curve_of(images), curve_of([images[k] for k in order])
        np.testing.assert_array_equal(one.thresholds, other.thresholds)
        np.testing.assert_array_equal(one.risks, other.risks)

    @pytest.mark.parametrize("rule", CURVES)
    @given(images=strategies.images())
    def test_it_is_a_step_curve(self, rule, images):
        """Thresholds and values rise strictly, from that of the empty mask up to at most B."""
        curve = CURVES[rule](staircases_of(images), BOUND)
        assert (curve.n, curve.bound) == (len(images), BOUND)
        assert (np.diff(curve.thresholds) > 0).all()
        assert (np.diff(curve.risks, prepend=curve.min_alpha) > 0).all()
        assert curve.risk(math.inf) <= BOUND + 1e-12
        assert curve.threshold(BOUND) == math.inf
        assert curve.threshold(math.nextafter(curve.min_alpha, 0)) == -math.inf

    def test_a_large_image_is_read_off_exactly(self):
        """The look-up table of whole images answers like a binary search."""
        generator = np.random.default_rng(0)
        images = [
            (
                (generator.lognormal(-9, 2, (64, 64))).astype(np.float32),
                generator.random((64, 64), dtype=np.float32),
            )
            for _ in range(20)
        ]
        curve = curve_of(images)
        sigma = generator.lognormal(-9, 3, (400, 500)).astype(np.float32)
        sigma[0, :3] = [0, -0.0, 1e-42]
        sigma[1, : len(curve.thresholds)] = curve.thresholds[:500]
        steps = np.append(curve.min_alpha, curve.risks)
        exact = steps[np.searchsorted(curve.thresholds, sigma, side="right")] / BOUND * 65534
        rounded = curve.trust_code(sigma) - exact
        assert rounded.min() >= 0
        assert rounded.max() <= 1 + 1e-6

    def test_equality_counts_as_allowed(self):
        """R(t) = α is within the promise: 3/(29 + 1) ≤ 0.1."""
        curve = RiskCurve.from_staircases([NEVER] * 29, 3.0)
        assert curve.threshold(0.1) == math.inf
        assert curve.threshold(np.nextafter(0.1, 0)) == -math.inf

    @pytest.mark.parametrize("rule", CURVES)
    def test_a_declared_bound_is_enforced(self, rule):
        """It must be a positive number, and an error above it stops the calibration."""
        with pytest.raises(ValueError, match="exceeds the bound"):
            CURVES[rule]([Staircase([1], [1.5])], 1.0)
        for bound in (0.0, -1.0, math.nan, math.inf):
            with pytest.raises(ValueError, match="positive"):
                CURVES[rule]([], bound)

    def test_refuses_nan(self):
        """NaN as t, α or σ is an error, not a mask."""
        curve = curve_of([])
        with pytest.raises(ValueError, match="not a number"):
            curve.risk(math.nan)
        with pytest.raises(ValueError, match="not a number"):
            curve.threshold(math.nan)
        with pytest.raises(ValueError, match="NaN"):
            curve.mask(np.array([[np.nan]], np.float32), 0.1)
        with pytest.raises(ValueError, match="NaN"):
            curve.trust_code(np.array([[np.nan]], np.float32))
        with pytest.raises(ValueError, match="not a number"):
            curve.mask_of_code(np.zeros((1, 1), np.uint16), math.nan)
