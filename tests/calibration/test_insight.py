"""What admins are shown: thresholds and curves in fewer steps."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.calibration.insight import COMMON_ALPHAS, coarser, thresholds
from app.conformal import RiskCurve, Staircase
from tests.factories import changed

LEVELS = st.lists(st.integers(0, 1000), min_size=1, max_size=30, unique=True).map(sorted)


@given(LEVELS, st.integers(1, 40))
def test_coarser_is_never_lower(levels, most):
    """A curve in fewer steps is at least the curve everywhere; with enough steps it is equal."""
    sigma = np.array([levels], np.float32) / 1000
    error = np.linspace(0.1, 1, len(levels), dtype=np.float32)[None]
    curve = RiskCurve.from_staircases([Staircase.from_maps(sigma, error)], 1.0)
    thresholds, risks = coarser(curve, most)
    assert len(risks) <= most
    assert thresholds[0] == curve.thresholds[0]
    assert risks[-1] == curve.risks[-1]
    if most >= len(curve.risks):
        assert (thresholds, risks) == (curve.thresholds.tolist(), curve.risks.tolist())
    for t in curve.thresholds:
        place = np.searchsorted(thresholds, t, side="right") - 1
        assert risks[place] >= curve.risk(float(t))


def test_the_default_alpha_is_tabled(calibration):
    """A calibration tells its threshold at its own default α, in the order of α, and once."""
    for default, wanted in ((0.12, sorted([*COMMON_ALPHAS, 0.12])), (0.1, list(COMMON_ALPHAS))):
        rows = thresholds(changed(calibration, default_alpha=default))
        assert [row["alpha"] for row in rows] == wanted
