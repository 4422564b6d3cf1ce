"""The high-probability curve: its p-values against oracles, the curve against the definition."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from app.conformal import HighProbabilityCurve, Staircase
from app.conformal.high_probability import (
    hoeffding_bentkus_bound,
    hoeffding_bentkus_p_value,
    leakage_bound,
    minimal_n,
    rounded_down,
    wsr_bound,
)

from . import strategies
from .strategies import ALPHAS, BOUND, NEVER, staircases_of

DELTAS = st.sampled_from([0.01, 0.1, 0.3])
METHODS = ("hoeffding_bentkus", "wsr")


def curve_of(images, delta=0.1, method="hoeffding_bentkus"):
    return HighProbabilityCurve.from_staircases(
        staircases_of(images), BOUND, delta=delta, method=method
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


def going_up(staircases, delta, method, alpha):
    """t̂ by the definition: thresholds in turn, from below, until the first that is not certified.

    t̂ is the first breakpoint whose inclusion is not certified; before all of them stands the mask
    without any error.
    """
    if not staircases:
        return math.inf if alpha >= BOUND else -math.inf
    share = alpha / BOUND

    def certified(t):
        if share >= 1:
            return True  # no loss exceeds B
        x = np.array([staircase.loss(t) for staircase in staircases]) / BOUND
        if method == "wsr":
            return betting(x, share, delta) <= delta
        return bool(hoeffding_bentkus_p_value(x.mean(), len(x), share) <= delta)

    if share <= 0 or not certified(-math.inf):
        return -math.inf
    for t in sorted({float(level) for staircase in staircases for level in staircase.levels}):
        if not certified(t):
            return t
    return math.inf


def on_the_grid(images):
    """The same images with every σ on the grid at which WSR tests."""
    return [(rounded_down(sigma.ravel()).reshape(sigma.shape), error) for sigma, error in images]


class TestHoeffdingBentkus:
    def test_the_p_value_is_mapies(self):
        """It equals that of an independent implementation."""
        oracle = pytest.importorskip("mapie.risk_control.methods").compute_hoeffding_bentkus_p_value
        random = np.random.default_rng(0)
        for n in (1, 7, 50, 2000):
            mean = np.concatenate([[0, 0.5, 1], random.random(100), random.random(100) / n])
            alpha = np.array([0.01, 0.05, 0.3, 0.9])
            np.testing.assert_allclose(
                hoeffding_bentkus_p_value(mean[:, None], n, alpha),
                oracle(mean, n, alpha),
                atol=1e-12,
            )

    @given(
        st.lists(st.floats(0, 1), min_size=1, max_size=20),
        st.integers(1, 5000),
        st.floats(1e-6, 0.999),
    )
    def test_the_bound_inverts_the_p_value(self, means, n, delta):
        """At the bound the p-value is at most δ, and just below it more than δ."""
        mean = np.array(means)
        bound = hoeffding_bentkus_bound(mean, n, delta)
        assert ((bound > mean) | (bound == 1)).all()
        inside = bound < 1
        at = hoeffding_bentkus_p_value(mean[inside], n, bound[inside])
        below = hoeffding_bentkus_p_value(mean[inside], n, bound[inside] * (1 - 1e-6))
        assert (at <= delta * (1 + 1e-9)).all()
        assert (below > delta).all()

    @given(st.integers(1, 500), DELTAS)
    def test_the_bound_grows_with_the_mean(self, n, delta):
        """More loss never gives a smaller bound: what thinning rests on."""
        assert (np.diff(hoeffding_bentkus_bound(np.linspace(0, 1, 300), n, delta)) >= 0).all()


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
        rounded = rounded_down(levels)
        assert (rounded <= levels).all()
        assert (np.diff(rounded) >= 0).all()
        normal = np.abs(levels) > 1e-37
        assert (levels[normal] - rounded[normal] <= np.abs(levels[normal]) / 64).all()
        np.testing.assert_array_equal(rounded_down(rounded), rounded)


class TestCurve:
    @pytest.mark.parametrize(("method", "precision"), [(METHODS[0], 1e-9), (METHODS[1], 2**-18)])
    @given(images=strategies.images(), alpha=ALPHAS, delta=DELTAS)
    def test_thresholds_are_those_of_the_fixed_sequence(
        self, method, precision, images, alpha, delta
    ):
        """sup{t : max U ≤ α} is where testing upwards stops, for every α; for WSR on its grid."""
        if method == "wsr":
            images = on_the_grid(images)
        curve = curve_of(images, delta, method)
        close = np.abs(np.append(curve.risks, curve.min_alpha) - alpha) <= precision
        if not close.any() or alpha == BOUND:
            expected = going_up(staircases_of(images), delta, method, alpha)
            assert curve.threshold(alpha) == expected

    def test_thinning_is_on_the_safe_side(self):
        """Of more breakpoints than are kept, the curve lies above the whole one, by little."""
        random = np.random.default_rng(1)
        steps = np.linspace(0.1, 1, 1000)
        staircases = [
            Staircase(
                np.arange(k, 70_000, 70, dtype=np.float32), np.float32(steps * random.random())
            )
            for k in range(70)
        ]
        curve = HighProbabilityCurve.from_staircases(staircases, BOUND, delta=0.1)
        assert len(curve.thresholds) <= 2**16 < sum(map(len, staircases))
        for t in random.uniform(0, 70_000, 200):
            mean = np.mean([staircase.loss(t) for staircase in staircases]) / BOUND
            whole = BOUND * hoeffding_bentkus_bound(mean, 70, 0.1)
            assert whole * (1 - 1e-9) <= curve.risk(t) <= whole + 1e-3 * BOUND

    def test_the_grid_is_on_the_safe_side(self):
        random = np.random.default_rng(2)
        images = [
            (random.random((8, 8), np.float32), random.random((8, 8), np.float32))
            for _ in range(60)
        ]
        free, gridded = curve_of(images, method="wsr"), curve_of(on_the_grid(images), method="wsr")
        np.testing.assert_array_equal(free.thresholds, gridded.thresholds)
        np.testing.assert_array_equal(free.risks, gridded.risks)


@given(st.floats(0.01, 2.5), DELTAS, st.sampled_from(METHODS))
@settings(max_examples=50)
def test_it_is_where_the_curve_begins_to_certify(alpha, delta, method):
    """With n perfect images α is certified, with n − 1 it is not."""
    n = minimal_n(alpha, BOUND, delta, method)

    def threshold(count):
        return HighProbabilityCurve.from_staircases(
            [NEVER] * count, BOUND, delta=delta, method=method
        ).threshold(alpha)

    assert threshold(n) == math.inf
    assert n == 0 or threshold(n - 1) == -math.inf


def test_leakage_it_holds():
    """Of calibrations with perfect leaked images, at most δ violate the weaker bound."""
    n, leaked, alpha, delta = 120, 40, 0.5, 0.1
    bound = leakage_bound(alpha, n, leaked, 1.0, delta)
    levels = np.linspace(1, 2, 100).astype(np.float32)  # the risk of t is the share below it
    random = np.random.default_rng(5)
    violations = 0
    for _ in range(200):
        drawn = random.choice(levels, n - leaked)
        images = [*(Staircase([level], [1.0]) for level in drawn), *[NEVER] * leaked]
        curve = HighProbabilityCurve.from_staircases(images, 1.0, delta=delta)
        violations += np.mean(levels < curve.threshold(alpha)) > bound
    assert violations <= stats.binom.ppf(0.999, 200, delta)
