"""The risk curve of n calibration scenes: the guarantee in expectation.

R(t) = (Σ_i L̄_i(t) + B) / (n + 1), and t_α = sup{t : R(t) ≤ α} is its threshold. With one image
per scene it is the paper's Eq. 1. With several, E[L(t_α−)] ≤ α for one new crop of a new scene, if
the scenes, each with its number of crops, are exchangeable with that of the new crop, and the crops
within each scene: t_α looks at the n scenes only, so the expectation is that of the new scene's
mean L̄_{n+1}(t_α−). Since L̄_{n+1} ≤ B, t_α ≤ t′ = sup{t : (1/(n + 1)) Σ_{i ≤ n+1} L̄_i(t) ≤ α},
which is symmetric in the n + 1 scenes, so the expectation of L̄_{n+1}(t′−) is that of the mean of
all of them, which is at most α. (Pooling the crops instead breaks the promise where easy scenes
bring more of them.)

The trust mask is {p : σ(p) < t_α}. The comparison is strict: R may jump above α exactly at t_α, and
with equal values of σ across images the mask {σ ≤ t_α} of the paper's Eq. 2 then breaks the
promise (tests/conformal/test_guarantee.py measures by how much).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from app.conformal.curve import LARGEST, UNIT, StepCurve, by_scene, mean_loss, summed
from app.conformal.staircase import Staircase


@dataclass(frozen=True, eq=False)
class RiskCurve(StepCurve):
    """R(t) as its breakpoints; `min_alpha` is B/(n + 1), the risk of the empty mask."""

    @classmethod
    def from_staircases(
        cls,
        staircases: Iterable[Staircase],
        bound: float,
        *,
        scenes: Iterable[Hashable] | None = None,
        highest: float = LARGEST,
    ) -> RiskCurve:
        """The curve of a set of images; the order of the staircases does not matter.

        Args:
            staircases: of the images.
            bound: B.
            scenes: the scene of each image; None: every image is its own.
            highest: the largest σ of the images, beyond which nothing is trusted.

        Raises:
            ValueError: the bound is not positive, an error exceeds it, or not as many scenes as
                images.
        """
        losses = [mean_loss(crops) for crops in by_scene(staircases, bound, scenes)]
        n, total = len(losses), summed(losses)
        risks = (total.totals / UNIT + bound) / (n + 1)
        return cls(n, float(bound), bound / (n + 1), total.levels, risks, highest=float(highest))
