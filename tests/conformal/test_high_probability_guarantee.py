"""Is the promise kept with probability 1 − δ? Calibrations drawn from a population known entirely.

A violation is a calibration whose threshold has an expected loss above α.

Power: of 500 calibrations, more than 72 violate by chance with probability 0.001 if the true share
is δ = 0.1; if it were 0.18, more than 72 would with probability 0.98.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from app.conformal import Staircase

from .simulation import expected_losses, thresholds
from .strategies import DELTA, NEVER

DRAWS = 500
MOST = int(stats.binom.ppf(0.999, DRAWS, DELTA))


@pytest.fixture(scope="module")
def coins():
    """Losses of 0 or B only, the hardest for a mean, that appear level by level."""
    levels = np.linspace(1, 2, 97).astype(np.float32)
    return [*([Staircase([level], [1.0])] for level in levels), *[[NEVER]] * 3], 1.0


def violations(population, bound, rule: str, *, n: int, alpha: float) -> tuple[int, float]:
    """How many of the calibrations violate, and the mean expected loss of their thresholds."""
    found = thresholds(population, rule, n=n, draws=DRAWS, alpha=alpha, bound=bound)
    risks = expected_losses(population, found)
    return int(np.sum(risks > alpha)), float(risks.mean())


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["hoeffding_bentkus", "wsr"])
def test_at_most_delta_of_the_calibrations_violate(rule, coins):
    """E[L | calibration] ≤ α in all but δ of the calibrations, and masks are not empty."""
    count, mean = violations(*coins, rule, n=60, alpha=0.3)
    assert count <= MOST
    assert mean > 0.3 / 8


@pytest.mark.slow
def test_the_guarantee_in_expectation_is_another_one(coins):
    """Its thresholds keep α on average, and exceed it in far more than δ of the calibrations."""
    count, mean = violations(*coins, "expectation", n=60, alpha=0.3)
    assert mean <= 0.3
    assert count > 2 * MOST
