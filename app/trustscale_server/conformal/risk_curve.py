"""The guarantee in expectation, and what else follows from the risk curve of a calibration."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trustscale_server.conformal.calibration_set import CalibrationSet
from trustscale_server.conformal.scenes import UNITS_OF_LOSS, Scene, summed, total_weight
from trustscale_server.conformal.step_curve import LARGEST, ROUNDING, StepCurve

EXCEEDING_SHARE: Final = 0.1
"""The default β: the share of spots that may exceed the typical error (`exceeded_by`)."""


@dataclass(frozen=True, eq=False)
class RiskCurve(StepCurve):
    """R(t) as its breakpoints; `min_alpha` is B/(ΣW + 1), the risk of the empty mask.

    **The guarantee in expectation.** `RiskCurve` is R(t) = (Σ_i W_i L̄_i(t) + B)/(Σ_i W_i + 1),
    and t_α = sup{t : R(t) ≤ α}; with one image per scene and no weights, the paper's Eq. 1.
    **E[L(t_α−)] ≤ α** for one new spot of a new scene, drawn by weights, over the draw of all n +
    1 scenes, if these, each with its spots and their weights, are exchangeable. *Proof.* Let
    f_i(t) = W_i (L̄_i(t) − α), which rises in t and is at most B − α (for α ≥ B nothing is
    claimed). t_α depends on the n scenes only. As f_{n+1} ≤ B − α, t_α = sup{t : Σ_{i ≤ n} f_i(t)
    + B − α ≤ 0} is at most t′ = sup{t : Σ_{i ≤ n+1} f_i(t) ≤ 0}. t′ is symmetric in the n + 1
    scenes, so E[f_{n+1}(t′−)] is that of the mean of all of them, at most 0, and E[f_{n+1}(t_α−)]
    ≤ 0, too: E[W L̄] ≤ α E[W]. A picture of the class is from scene i in proportion to W_i, so
    this is its expected loss. ∎ (Pooling the spots of all scenes breaks the promise where easy
    scenes bring more of them.)

    The mask {σ < t_α} is strict: R may jump above α at t_α, and where values of σ are equal across
    images, the paper's {σ ≤ t_α} (Eq. 2) breaks the promise (test_guarantee.py measures it).
    """

    @classmethod
    def from_calibration_set(cls, calibration_set: CalibrationSet) -> RiskCurve:
        """Return the curve of a calibration set, in any order.

        Raises:
            ValueError: as `CalibrationSet.by_scene`.
        """
        grouped, bound = calibration_set.by_scene(), calibration_set.bound
        losses = [scene.loss() for scene in grouped]
        total = summed(
            np.concatenate([*(loss.levels for loss in losses), np.empty(0, np.float32)]),
            np.concatenate([*(loss.totals for loss in losses), np.empty(0, np.int64)]),
            np.array([len(loss.levels) for loss in losses], np.int64),
        )
        n = total_weight(grouped)
        risks = (total.totals / UNITS_OF_LOSS + bound) / (n + 1)
        return cls(
            n,
            float(bound),
            bound / (n + 1),
            total.levels,
            risks,
            highest=float(calibration_set.highest),
        )

    def lenient_threshold(self, alpha: float) -> float:
        """Return t⁺, which the threshold of all n + 1 scenes does not exceed.

        It may lie above `highest`, which follows from the n scenes alone: what these lose up to
        there says too little of a new one (test_typical_error.py has an example).
        """
        uncut = replace(self, highest=LARGEST)
        return uncut.threshold((alpha + self.min_alpha) * ROUNDING)


def exceeded_by(
    losses: Sequence[NDArray[np.float64]], scenes: Sequence[Scene], share: float = EXCEEDING_SHARE
) -> float | None:
    """Return τ̂ from L_ij(t⁺−), one array for each scene, and β; None: too few scenes for one.

    Weights are compared as fractions, so ties are decided exactly.

    **The error that nine of ten spots do not exceed.** For a share β fixed in advance let

        t⁺ = sup{t : Σ_i W_i L̄_i(t) ≤ α (Σ_i W_i + 1)}, that of R with B replaced by 0
        τ̂ = min{τ : Σ_i Σ_j w_ij 1{L_ij(t⁺−) > τ} + 1 ≤ β (Σ_i W_i + 1)}

    Then P(L_new(t_α−) > τ̂) ≤ β over the draw of the scenes and of the spot, although t_α and τ̂
    come from the same scenes. *Proof.* t_α ≤ t′ ≤ t⁺, since Σ_{i ≤ n} f_i ≤ −f_{n+1} ≤ α where
    Σ_{i ≤ n+1} f_i ≤ 0. Let τ′ be the least τ that at most the share β of all weights of the n + 1
    scenes exceeds at t′. Both are symmetric in them, so E[Σ_j w_j (1{L_j(t′−) > τ′} − β)] ≤ 0 for
    the new scene. At τ̂ the n scenes at t⁺ ≥ t′ and the new one, whose Σ_j w_j (1{…} − β) is at
    most 1 − β, sum to at most 0, so τ′ ≤ τ̂. And L_new(t_α−) ≤ L_new(t′−). ∎
    """
    most = Fraction(share) * (1 + sum(scene.weight for scene in scenes)) - 1
    if most < 0:
        return None

    def is_few(error: float) -> bool:
        """Whether spots that weigh at most β (ΣW + 1) − 1 exceed this error."""
        above = (
            Fraction(int(np.array(scene.counts)[lost > error].sum()), scene.whole)
            for scene, lost in zip(scenes, losses, strict=True)
        )
        return sum(above) <= most

    errors: list[float] = np.unique(np.concatenate([[0.0], *losses])).tolist()
    return errors[bisect_left(errors, True, key=is_few)]


def minimal_n(alpha: float, bound: float) -> int:
    """Return the smallest n with B/(n + 1) ≤ α, below which no pixel can be trusted.

    Raises:
        ValueError: alpha or bound is not a positive number.
    """
    if not (0 < alpha < math.inf and 0 < bound < math.inf):
        raise ValueError("alpha and bound must be positive numbers")
    n = max(0, math.ceil(Fraction(bound) / Fraction(alpha)) - 1)
    # The risk curve divides in floating point, which may decide a tie the other way.
    if 0 < n < 1 << 52 and bound / n <= alpha:
        return n - 1
    return n


def leakage_bound(alpha: float, n: float, n_leaked: int, bound: float) -> float:
    """Return the bound that survives if `n_leaked` of n scenes were trained on (Prop. 3.2).

    A model may be perfect on those. Without them t_α is the threshold of the other
    n_new = n − n_leaked scenes at level α(n + 1)/(n_new + 1). At most B.

    Raises:
        ValueError: n_leaked outside [0, n].
    """
    if not 0 <= n_leaked <= n:
        raise ValueError(f"n_leaked must be between 0 and n = {n}, got {n_leaked}")
    return min(bound, alpha * (n + 1) / (n - n_leaked + 1))


def lab_psnr_lower_bound_db(alpha: float) -> float | None:
    """Return a lower bound in dB on the expected PSNR inside a `pointwise` mask.

    Proposition 3.1 with its last step mended: the peak is 1, that of normalised Lab. The root mean
    square over pixels and channels is at most the worst ‖Y − Ŷ‖₁ divided by √3, so, by Jensen's
    inequality, E[PSNR] ≥ −20 log10(α) + 10 log10(3), in normalised Lab, not RGB, an empty mask
    counted as error 0. None for α = 0.
    """
    if alpha <= 0:
        return None
    return -20 * math.log10(alpha) + 10 * math.log10(3)
