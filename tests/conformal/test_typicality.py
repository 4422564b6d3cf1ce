"""The p-value of an image among others: valid for few, and small for what is unlike them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from app.conformal.typicality import p_value


@pytest.mark.parametrize("n", [3, 15, 60])
def test_it_is_valid_however_few_they_are(n):
    """P(p ≤ u) ≤ u for exchangeable points of a skewed law with dependent coordinates."""
    random = np.random.default_rng(n)
    draws = 1500
    points = random.gamma(0.7, 1, (draws, n + 1, 4))
    points[..., 1] += 3 * points[..., 0]
    found = [p_value(p[:-1], p[-1]) for p in points]
    for u in (1 / (n + 1), 0.1, 0.3, 0.7):
        below = np.sum(np.array(found) <= u + 1e-12)
        assert below <= stats.binom.ppf(0.9999, draws, max(u, 1 / (n + 1)))


def test_it_sees_what_no_single_fact_shows():
    """Two facts within their ranges, but never together so, give the smallest p-value."""
    random = np.random.default_rng(0)
    known = random.normal(size=(60, 1)) * [1, 1] + random.normal(scale=0.05, size=(60, 2))
    assert p_value(known, np.array([1.2, -1.2])) == pytest.approx(1 / 61)
    assert p_value(known, np.array([1.2, 1.2])) > 0.1


def test_facts_that_never_vary():
    """A constant fact breaks nothing, and another value of it is as unlike as can be."""
    known = np.column_stack([np.ones(30), np.arange(30.0)])
    assert p_value(known, np.array([1.0, 15.2])) > 0.5
    assert p_value(known, np.array([2.0, 15.2])) == pytest.approx(1 / 31)
