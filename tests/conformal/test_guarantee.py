"""Does the promise hold? Monte-Carlo over many calibrations, with heavily tied σ.

Each repetition draws n calibration images; the expectation, over a new image of the same law, of
the worst error inside its mask is what α bounds.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from app.conformal import RiskCurve, Staircase

from .simulation import expected_losses, thresholds

N, ALPHA, BOUND = 40, 0.3, 1.0


def image(random, levels):
    """An image of 64 pixels whose error grows with σ, σ rounded to a few levels."""
    sigma = random.random(64) ** 2
    error = np.minimum(1, sigma * random.random(64) * random.choice([0.6, 2.5]))
    if levels:
        sigma = np.floor(sigma * levels) / levels
    return Staircase.from_maps(sigma.astype(np.float32), error.astype(np.float32))


@pytest.mark.parametrize("levels", [0, 16, 8, 2])
def test_the_promised_expectation_holds(levels):
    """E[worst error in {σ < t_α}] ≤ α, for continuous σ and for σ of 16, 8 and 2 levels."""
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
    curve = RiskCurve.from_staircases([Staircase.from_maps(sigma, error)] * 99, 1.0)
    for alpha in (0.01, 0.3, 0.99):
        assert error[curve.mask(sigma, alpha)].max() == 0
        assert error[sigma <= curve.threshold(alpha)].max() == 1
