"""The high-probability curve: its p-values against oracles, the curve against the definition."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from trustscale_server.conformal import CalibrationSet, HighProbabilityCurve
from trustscale_server.conformal.high_probability import coarse_down, minimal_n, wsr_bound

from . import strategies
from .strategies import ALPHAS, BOUND, NEVER, staircases_of

DELTAS = st.sampled_from([0.01, 0.1, 0.3])


def curve_of(images, delta=0.1):
    return HighProbabilityCurve.from_calibration_set(
        CalibrationSet(staircases_of(images), BOUND), delta=delta
    )


def betting(x, share, delta):
    """The WSR p-value by a plain loop over one sequence, from the paper's formulas."""
    wealth = best = 1.0
    n, total, squares, variance = len(x), 0.0, 0.0, 0.25
    for i, value in enumerate(x, start=1):
        bet = min(1.0, math.sqrt(2 * math.log(1 / delta) / (n * variance)))
        wealth *= 1 - bet * (value - share)
        best = max(best, wealth)
        total += value
        mean = (0.5 + total) / (i + 1)
        squares += (value - mean) ** 2
        variance = (0.25 + squares) / (i + 1)
    return 1 / best


def going_up(loss_curves, delta, alpha):
    """t̂ by the definition: thresholds in turn, from below, until the first that is not certified.

    t̂ is the first breakpoint whose inclusion is not certified; before all of them stands the mask
    without any error.
    """
    if not loss_curves:
        return math.inf if alpha >= BOUND else -math.inf
    share = alpha / BOUND

    def certified(t):
        if share >= 1:
            return True  # no loss exceeds B
        x = np.array([loss_curve.losses(t) for loss_curve in loss_curves], float) / BOUND
        return betting(x, share, delta) <= delta

    if share <= 0 or not certified(-math.inf):
        return -math.inf
    for t in sorted({float(level) for loss_curve in loss_curves for level in loss_curve.levels}):
        if not certified(t):
            return t
    return math.inf


def on_the_grid(images):
    """The same images with every σ on the grid at which WSR tests."""
    return [(coarse_down(sigma.ravel()).reshape(sigma.shape), error) for sigma, error in images]


class TestBetting:
    @given(st.lists(st.floats(0, 1), min_size=1, max_size=30), DELTAS)
    def test_the_bound_inverts_the_p_value(self, values, delta):
        """It is the smallest A with p ≤ δ, or up to 2^-19 more; of each sequence for itself."""
        x = np.array(values)
        both = wsr_bound(np.stack([x, x[::-1]], axis=1), delta)
        for sequence, bound in zip((values, values[::-1]), both, strict=True):
            if bound < 1:
                assert betting(sequence, bound, delta) <= delta * (1 + 1e-9)
            if bound > 2**-19:
                assert betting(sequence, bound - 2**-19, delta) > delta * (1 - 1e-9)

    def test_long_runs_do_not_overflow(self):
        """A wealth beyond all numbers rejects; one that has vanished does not."""
        assert wsr_bound(np.zeros(20_000), 0.1) < 1e-3
        assert wsr_bound(np.ones(20_000), 0.1) == 1

    @given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
    def test_the_grid(self, values):
        """Levels are rounded down by less than 1/64, in order, and stay once rounded."""
        levels = np.sort(np.array(values, np.float32))
        levels = levels[np.abs(levels) < 1e38]
        rounded = coarse_down(levels)
        assert (rounded <= levels).all()
        assert (np.diff(rounded) >= 0).all()
        normal = np.abs(levels) > 1e-37
        assert (levels[normal] - rounded[normal] <= np.abs(levels[normal]) / 64).all()
        np.testing.assert_array_equal(coarse_down(rounded), rounded)


class TestCurve:
    @given(images=strategies.images(), alpha=ALPHAS, delta=DELTAS)
    def test_thresholds_are_those_of_the_fixed_sequence(self, images, alpha, delta):
        """sup{t : max U ≤ α} is where testing upwards stops, for every α, on its grid."""
        images = on_the_grid(images)
        curve = curve_of(images, delta)
        close = np.abs(np.append(curve.risks, curve.min_alpha) - alpha) <= 2**-18
        if not close.any() or alpha == BOUND:
            assert curve.threshold(alpha) == going_up(staircases_of(images), delta, alpha)

    def test_the_grid_is_on_the_safe_side(self):
        random = np.random.default_rng(2)
        images = [
            (random.random((8, 8), np.float32), random.random((8, 8), np.float32))
            for _ in range(60)
        ]
        free, gridded = curve_of(images), curve_of(on_the_grid(images))
        np.testing.assert_array_equal(free.thresholds, gridded.thresholds)
        np.testing.assert_array_equal(free.risks, gridded.risks)


@given(st.floats(0.01, 2.5), DELTAS)
@settings(max_examples=50)
def test_it_is_where_the_curve_begins_to_certify(alpha, delta):
    """With n perfect images α is certified, with n − 1 it is not."""
    n = minimal_n(alpha, BOUND, delta)

    def threshold(count):
        return HighProbabilityCurve.from_calibration_set(
            CalibrationSet([NEVER] * count, BOUND), delta=delta
        ).threshold(alpha)

    assert threshold(n) == math.inf
    assert n == 0 or threshold(n - 1) == -math.inf
