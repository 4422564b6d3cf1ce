"""Bounds from n, B and α, and whether promises hold, in a population that is known entirely."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trustscale_server.conformal import CalibrationSet, LossCurve, RiskCurve
from trustscale_server.conformal.risk_curve import lab_psnr_lower_bound_db, leakage_bound, minimal_n

from .simulation import expected_losses, thresholds

N, ALPHA, BOUND = 40, 0.3, 1.0


def image(random, levels):
    """An image of 64 pixels whose error grows with σ, σ rounded to a few levels."""
    sigma = random.random(64) ** 2
    error = np.minimum(1, sigma * random.random(64) * random.choice([0.6, 2.5]))
    if levels:
        sigma = np.floor(sigma * levels) / levels
    return LossCurve.from_maps(sigma.astype(np.float32), error.astype(np.float32))


@pytest.mark.parametrize("levels", [0, 8, 2])
def test_the_promised_expectation_holds(levels):
    """E[worst error in {σ < t_α}] ≤ α, for continuous σ and for σ of 8 and 2 levels."""
    random = np.random.default_rng(levels)
    population = [[image(random, levels)] for _ in range(250)]
    found = thresholds(population, "expectation", n=N, draws=300, alpha=ALPHA, bound=BOUND)
    risks = expected_losses(population, found)
    assert risks.mean() <= ALPHA + 3 * stats.sem(risks)
    if not levels:  # and it is not empty caution
        assert risks.mean() >= ALPHA - BOUND / (N + 1) - 5 * stats.sem(risks) - 0.03


def test_two_levels_make_the_literal_rule_lose_everything():
    """The exact counterexample: σ = 0, 1 with D = 0, 1 in every image; loss 0 against loss 1."""
    sigma, error = np.float32([[0, 1]]), np.float32([[0, 1]])
    curve = RiskCurve.from_calibration_set(
        CalibrationSet([LossCurve.from_maps(sigma, error)] * 99, 1.0)
    )
    for alpha in (0.01, 0.3, 0.99):
        assert error[curve.mask(sigma, alpha)].max() == 0
        assert error[sigma <= curve.threshold(alpha)].max() == 1


class TestMinimalN:
    @given(st.floats(1e-4, 2), st.floats(0.1, 3))
    def test_is_the_smallest(self, alpha, bound):
        n = minimal_n(alpha, bound)
        assert bound / (n + 1) <= alpha
        assert n == 0 or bound / n > alpha

    @pytest.mark.parametrize("alpha", [0, -1, math.nan, math.inf])
    def test_refuses_alpha_without_meaning(self, alpha):
        with pytest.raises(ValueError, match="positive"):
            minimal_n(alpha, 1.0)


def test_bounds_by_hand():
    """α(n + 1)/(n_new + 1), at most B; −20 log10(α) + 10 log10(3) dB, none of a perfect mask."""
    assert leakage_bound(0.1, 100, 0, 3.0) == pytest.approx(0.1)
    assert leakage_bound(0.1, 99, 50, 3.0) == pytest.approx(0.1 * 100 / 50)
    assert leakage_bound(0.1, 99, 99, 3.0) == 3.0
    with pytest.raises(ValueError, match="n_leaked"):
        leakage_bound(0.1, 5, 6, 3.0)
    assert lab_psnr_lower_bound_db(0.1) == pytest.approx(24.7712, abs=1e-4)
    assert lab_psnr_lower_bound_db(0) is None
