"""The guarantee in expectation: the risk curve of n calibration scenes, and what follows from it.

R(t) = (Σ_i L̄_i(t) + B)/(n + 1), and t_α = sup{t : R(t) ≤ α}; with one image per scene, the paper's
Eq. 1. **E[L(t_α−)] ≤ α** for one new crop of a new scene, over the draw of all n + 1 scenes, if
these, each with its number of crops, are exchangeable, and so are the crops within each. *Proof.*
t_α depends on the n scenes only, so the expectation is that of the new scene's mean L̄_{n+1}(t_α−).
As L̄_{n+1} ≤ B, t_α ≤ t′ = sup{t : (1/(n + 1)) Σ_{i ≤ n+1} L̄_i(t) ≤ α}. t′ is symmetric in the
n + 1 scenes, so E[L̄_{n+1}(t′−)] is that of the mean of all of them, at most α. ∎ (Pooling the
crops breaks the promise where easy scenes bring more of them.)

The mask {σ < t_α} is strict: R may jump above α at t_α, and where values of σ are equal across
images, the paper's {σ ≤ t_α} (Eq. 2) breaks the promise (test_guarantee.py measures it).

**The error that nine of ten pictures do not exceed.** For a share β fixed in advance let

    t⁺ = sup{t : (1/(n + 1)) Σ_i L̄_i(t) ≤ α}, that of R with B replaced by 0
    τ̂ = min{τ : Σ_i (mean over the crops j of scene i of 1{L_ij(t⁺−) > τ}) + 1 ≤ β (n + 1)}

Then P(L_new(t_α−) > τ̂) ≤ β over the draw of the scenes and of the picture, although t_α and τ̂
come from the same scenes. *Proof.* t_α ≤ t′ ≤ t⁺. Let τ′ be the least τ that at most β (n + 1) of
the n + 1 scenes, counted by shares, exceed at t′. Both are symmetric in them:
P(L_new(t′−) > τ′) ≤ β. At τ̂ the n scenes at t⁺ ≥ t′ and the new one, which counts 1 at most, are
at most β (n + 1), so τ′ ≤ τ̂. And L_new(t_α−) ≤ L_new(t′−). ∎
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

from trustscale_server.conformal.curve import LARGEST, UNIT, StepCurve, by_scene, mean_loss, summed
from trustscale_server.conformal.loss_curve import LossCurve

USUALLY: Final = 0.1
"""β: one of ten."""


@dataclass(frozen=True, eq=False)
class RiskCurve(StepCurve):
    """R(t) as its breakpoints; `min_alpha` is B/(n + 1), the risk of the empty mask."""

    @classmethod
    def from_loss_curves(
        cls,
        loss_curves: Iterable[LossCurve],
        bound: float,
        *,
        scenes: Iterable[Hashable] | None = None,
        highest: float = LARGEST,
    ) -> RiskCurve:
        """The curve of a set of images, in any order.

        Args:
            loss_curves: of the images.
            bound: B.
            scenes: the scene of each image; None: every image is its own.
            highest: the largest σ of the images, beyond which nothing is trusted.

        Raises:
            ValueError: as `by_scene`.
        """
        losses = [mean_loss(crops) for crops in by_scene(loss_curves, bound, scenes)]
        n, total = len(losses), summed(losses)
        risks = (total.totals / UNIT + bound) / (n + 1)
        return cls(n, float(bound), bound / (n + 1), total.levels, risks, highest=float(highest))


def exceeded_by(losses: Sequence[Sequence[float]], share: float = USUALLY) -> float | None:
    """τ̂ from L_ij(t⁺−) of the crops j of each scene i, and β; None: too few scenes for one."""
    n = len(losses)
    if 1 / (n + 1) > share:
        return None
    values = np.concatenate([np.asarray(crops, np.float64) for crops in losses])
    weights = np.concatenate([np.full(len(crops), 1 / len(crops)) for crops in losses])
    order = np.argsort(-values, kind="stable")
    values, above = values[order], np.cumsum(weights[order])
    # At τ = values[k] at most the first k lie above it.
    over = (above + 1) / (n + 1) > share
    return float(values[np.argmax(over)]) if over.any() else 0.0


def minimal_n(alpha: float, bound: float) -> int:
    """The smallest n with B/(n + 1) ≤ α, below which no pixel can be trusted.

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


def leakage_bound(alpha: float, n: int, n_leaked: int, bound: float) -> float:
    """Proposition 3.2: the bound that survives when `n_leaked` of n scenes were trained on.

    A model may be perfect on those. Without them t_α is the threshold of the other
    n_new = n − n_leaked scenes at level α(n + 1)/(n_new + 1). At most B.

    Raises:
        ValueError: n_leaked outside [0, n].
    """
    if not 0 <= n_leaked <= n:
        raise ValueError(f"n_leaked must be between 0 and n = {n}, got {n_leaked}")
    return min(bound, alpha * (n + 1) / (n - n_leaked + 1))


def lab_psnr_lower_bound_db(alpha: float) -> float | None:
    """A lower bound in dB on the expected PSNR inside the mask, for the `pointwise` metric only.

    Proposition 3.1 with its last step mended: the peak is 1, that of normalised Lab. The root mean
    square over pixels and channels is at most the worst ‖Y − Ŷ‖₁ divided by √3, so, by Jensen's
    inequality, E[PSNR] ≥ −20 log10(α) + 10 log10(3), in normalised Lab, not RGB, an empty mask
    counted as error 0. None for α = 0.
    """
    if alpha <= 0:
        return None
    return -20 * math.log10(alpha) + 10 * math.log10(3)
