"""A promise that holds although hard pictures are more frequent than in the calibration.

The plain promise is about pictures of the calibration's law P. Nobody's pictures are exactly of
it, and what a picture looks like does not say whether its errors are larger. A *robust* promise
names a factor Γ ≥ 1 and is about **every law Q under which no kind of picture is more than Γ times
as frequent as in the calibration**, dQ/dP ≤ Γ. The hardest of these is P without the easiest share
1 − 1/Γ of the pictures: a fifth for Γ = 1.25. Γ = 1 is the plain promise.

**The bound.** For a loss L ≥ 0, any cut c ≥ 0 and w = dQ/dP

    E_Q[L] = E_P[w L] ≤ E_P[w c + w (L − c)⁺] ≤ c + Γ E_P[(L − c)⁺]

since w has the mean 1 and is at most Γ. The least right side over c is the mean of the worst share
1/Γ of the losses (their CVaR at 1 − 1/Γ), with their quantile as c, and the hardest Q reaches it.

**In expectation.** c is fixed before, as a share of α that depends on Γ alone: c = κ α. Then
L′ = κ α + Γ (L − κ α)⁺ is a loss like any other: it rises with the threshold and is largest where L
is B. So the proof of `RiskCurve` holds for it. With the mean losses L̄_k of the pictures k, their
weights w_k and W = Σ w_k

    t_α = sup{t : Σ_k w_k L̄′_k(t) + κ α + Γ (B − κ α) ≤ α (W + 1)}    ⇒    E_Q[L(t_α−)] ≤ α

over the draw of the calibration scenes from P and of one new picture from Q, if these scenes and a
new one from P are exchangeable. *Proof.* f_i(t) = Σ_k w_k (L̄′_k(t) − α), over the pictures of
scene i, has E[f_new(t_α−)] ≤ 0, as there. Let v ≤ Γ be what Q multiplies the weight of a picture
with, so that E[Σ v w_k] = E[Σ w_k] over the new scene. Then E[Σ v w_k L̄_k] ≤ E[Σ w_k L̄′_k] ≤
α E[Σ w_k], by the bound above. ∎

*What an opponent may do.* v may depend on all about the new picture, its errors too, and on the
calibration: whoever knows both and drops the easiest share 1 − 1/Γ is covered.
*Classes.* With the weights of a class, Γ bounds the ratio within the class; how frequent classes
are among each other does not matter, since each has a threshold of its own.
*Pictures, not scenes or spots.* Of a scene the hard pictures may be chosen, so each counts by
itself. A spot of a picture is a random one.
*Why c is fixed.* The quantile of the losses at hand is not symmetric in the new scene; it costs a
factor of up to 1 + ½ √((Γ − 1)/(n + 1)), and trusts less on the shipped calibrations.

**All α at once.** Σ_k w_k (L̄_k − c)⁺ is the largest Σ_{k ∈ K} w_k (L̄_k − c) over sets K of
pictures, and the worst ones are such a set. So the condition is that α is at least

    value(t) = max over m of Γ A_m / ((1 − κ)(W + 1) + Γ κ C_m)

where A_m sums w L̄, and C_m the weights, of the worst m pictures; the new one, with L = B and the
weight 1, comes first. It rises with t, so it is a step curve with the thresholds of all α.

**κ = ln Γ / (1 + ln Γ)** is best if losses have an exponential law. Any κ < 1 is valid.

**The error that few spots exceed** (`exceeded_by`). f_new ≥ −(1 − κ) α, so t′ ≤ t⁺ = sup{t :
Γ Σ_k w_k (L̄_k − κ α)⁺ ≤ (1 − κ) α (W + 1)}. The share of spots above τ is at most β under Q if it
is at most β/Γ under P (c = 0).

**The other kinds.** An α chosen after looking: G = max L/α takes the place of L, and 1 that of α.
With high probability, and of the share of spots above a tolerance: E_Q[L] ≤ Γ E_P[L], c = 0, so
the curve is Γ times the plain one (`harder`). Which pictures need a look is decided without Γ.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from trustscale_server.conformal.calibration_set import CalibrationSet
from trustscale_server.conformal.scenes import UNITS_OF_LOSS, Scene, total_weight
from trustscale_server.conformal.step_curve import ROUNDING, StepCurve, rises

MAX_ROBUST: Final = 10.0
"""The largest Γ: beyond it nearly nothing is trusted."""

_BLOCK: Final = 1 << 20  # losses that are looked at together

Curve = TypeVar("Curve", bound=StepCurve)


def cut_share(robust: float) -> float:
    """Return κ for Γ; 0 for Γ = 1.

    Raises:
        ValueError: Γ is not from 1 to `MAX_ROBUST`.
    """
    if not 1 <= robust <= MAX_ROBUST:
        raise ValueError(f"robust must be from 1 to {MAX_ROBUST:g}, got {robust}")
    return math.log(robust) / (1 + math.log(robust))


def harder(curve: Curve, robust: float) -> Curve:
    """Return the curve of Γ times the risk, at most B: E_Q[L] ≤ Γ E_P[L].

    Raises:
        ValueError: as `cut_share`.
    """
    cut_share(robust)  # only Γ is checked
    values = np.minimum(np.append(curve.min_alpha, curve.risks) * (robust * ROUNDING), curve.bound)
    min_alpha, thresholds, risks = rises(curve.thresholds, values)
    return replace(curve, min_alpha=min_alpha, thresholds=thresholds, risks=risks)


def minimal_scenes(alpha: float, bound: float, robust: float) -> int:
    """Return the smallest n for which the value of the empty mask is at most α.

    Raises:
        ValueError: alpha or bound is not a positive number, or as `cut_share`.
    """
    if not (0 < alpha < math.inf and 0 < bound < math.inf):
        raise ValueError("alpha and bound must be positive numbers")
    kappa = cut_share(robust)
    n = max(0, math.ceil(robust * (bound / alpha * (1 - 1e-9) - kappa) / (1 - kappa)) - 1)
    if alpha >= bound:
        return n
    while robust * bound / ((1 - kappa) * (n + 1) + robust * kappa) > alpha / ROUNDING:
        n += 1
    return n


@dataclass(frozen=True, eq=False)
class RobustCurve(StepCurve):
    """`value` as its breakpoints: its mask of α loses at most α under every Q.

    lenient: the curve of t⁺, which `highest` does not cut (`RiskCurve.lenient_threshold`).
    """

    lenient: StepCurve = field(kw_only=True)

    @classmethod
    def from_calibration_set(cls, calibration_set: CalibrationSet, *, robust: float) -> RobustCurve:
        """Return the curve of the pictures of a calibration set, in any order.

        robust: Γ, fixed in advance.

        Raises:
            ValueError: as `cut_share` and `CalibrationSet.by_picture`.
        """
        grouped, bound = calibration_set.by_picture(), calibration_set.bound
        n, kappa = total_weight(grouped), cut_share(robust)
        fixed = (1 - kappa) * (n + 1)

        def value(
            worst: NDArray[np.float64], weight: NDArray[np.float64], new: int
        ) -> NDArray[np.float64]:
            """At each level, with `new` new pictures, which lose B with the weight 1."""
            counted = fixed + robust * kappa * (weight + new)
            return np.asarray((robust * (worst + bound * new) / counted).max(axis=1))

        nobody = np.zeros((1, 1))
        levels = [np.empty(0, np.float32)]
        without, with_new = [value(nobody, nobody, 0)], [value(nobody, nobody, 1)]
        for block, worst, weight in _worst_sums(grouped):
            levels.append(block)
            without.append(value(worst, weight, 0))
            with_new.append(value(worst, weight, 1))

        def steps(
            values: list[NDArray[np.float64]],
        ) -> tuple[float, NDArray[np.float32], NDArray[np.float64]]:
            # They cannot fall, but by rounding.
            risen = np.maximum.accumulate(np.concatenate(values)) * ROUNDING
            return rises(np.concatenate(levels), np.minimum(risen, bound))

        lenient = StepCurve(n, float(bound), *steps(without))
        end = float(calibration_set.highest)
        return cls(n, float(bound), *steps(with_new), highest=end, lenient=lenient)

    def lenient_threshold(self, alpha: float) -> float:
        """Return t⁺."""
        return self.lenient.threshold(alpha)


def _worst_sums(
    pictures: Sequence[Scene],
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]]:
    """Blocks of the levels of all pictures [k], and A_m and C_m of the worst ones there [k, m]."""
    losses = [picture.loss() for picture in pictures]
    levels = np.unique(np.concatenate([*(loss.levels for loss in losses), np.empty(0, np.float32)]))
    weights = np.array([float(picture.weight) for picture in pictures])
    rows = max(1, _BLOCK // max(1, len(pictures)))
    for start in range(0, len(levels), rows):
        block = levels[start : start + rows]
        sums = np.zeros((len(block), len(pictures)))
        for place, loss in enumerate(losses):
            steps = np.searchsorted(loss.levels, block, side="right")
            sums[:, place] = np.append(0, loss.totals)[steps]
        order = np.argsort(-(sums / weights), axis=1)
        worst = np.cumsum(np.take_along_axis(sums, order, axis=1), axis=1) / UNITS_OF_LOSS
        yield block, worst, np.cumsum(weights[order], axis=1)
