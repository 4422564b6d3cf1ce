"""The risk curve of n calibration images: the guarantee in expectation.

R(t) = (Σ_i L_i(t) + B) / (n + 1) is the paper's Eq. 1, and t_α = sup{t : R(t) ≤ α} its threshold.
The trust mask is {p : σ(p) < t_α}. The comparison is strict: R may jump above α exactly at t_α, and
with equal values of σ across images the mask {σ ≤ t_α} of the paper's Eq. 2 then breaks the
promise (tests/conformal/test_guarantee.py measures by how much).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from app.conformal.curve import UNIT, StepCurve, total_loss
from app.conformal.staircase import Staircase


@dataclass(frozen=True, eq=False)
class RiskCurve(StepCurve):
    """R(t) as its breakpoints; `min_alpha` is B/(n + 1), the risk of the empty mask."""

    @classmethod
    def from_staircases(cls, staircases: Iterable[Staircase], bound: float) -> RiskCurve:
        """The curve of a set of images; the order of the staircases does not matter.

        Raises:
            ValueError: the bound is not positive, or an error exceeds it.
        """
        n, levels, totals = total_loss(staircases, bound)
        risks = (totals / UNIT + bound) / (n + 1)
        return cls(n, float(bound), bound / (n + 1), levels, risks)
