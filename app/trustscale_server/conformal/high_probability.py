"""The guarantee with high probability, by risk-controlling thresholds (RCPS).

`RiskCurve` bounds the expected loss on average over calibrations; this is about the calibration at
hand. With probability at least 1 − δ over its n scenes, drawn independently from one law, the
expected loss of a crop of a new scene, E[L(t̂−) | calibration], is at most α.

**As one curve.** Let x_i(t) = L̄_i(t−)/B ∈ [0, 1] be the mean over the crops of scene i, and
p(t, A) a valid p-value for "E[x(t)] > A". Thresholds are tested upwards, until the first one with
p(t, α/B) > δ. The number of tests needs no correction: with t_pop = sup{t : E[L(t−)] ≤ α}, attained
since L(t−) is left-continuous, a t̂ beyond t_pop needs a wrong rejection at every fixed t of
(t_pop, t̂]; these events shrink as t grows, so their union has probability ≤ δ. Since p falls in A,
p(t, A) ≤ δ is U(t) ≤ A for the upper confidence bound U(t) = inf{A : p(t, A) ≤ δ}. So all smaller
thresholds pass if max_{s ≤ t} U(s) ≤ A, and this running maximum, times B, is a step curve with the
thresholds of all α. Each α fixed in advance has its promise; the bound is not simultaneous over α.

**Weights.** Of scenes with weights W_i each is kept with the probability W_i (`keep_by_weight`).
Those that are kept are independent draws of scenes of the class, and each loses its weighted mean
L̄_i.

**The p-value** is 1/max_j K_j of `betting.py` with bets of at most 1, which falls when A grows. On
the shipped calibrations it trusts .08 to .09 more than the bound of Hoeffding and Bentkus at every
α.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from trustscale_server.conformal.betting import Prior, bets, largest_wealth
from trustscale_server.conformal.calibration_set import CalibrationSet
from trustscale_server.conformal.loss_curve import coarse_down
from trustscale_server.conformal.scenes import Scene, keep_by_weight
from trustscale_server.conformal.step_curve import StepCurve, rises

_PRIOR = Prior(mean=0.5, variance=0.25, size=1)  # of x ∈ [0, 1]
_BLOCK = 256  # thresholds at once: temporaries stay small

# Bounds in floating point are enlarged by more than their error.
_SAFE = 1 + 1e-10


@dataclass(frozen=True, eq=False)
class HighProbabilityCurve(StepCurve):
    """max_{s ≤ t} U(s) · B: with probability ≥ 1 − δ, the mask {σ < t_α} has expected loss ≤ α.

    `min_alpha` is the bound for n scenes without any loss.
    """

    delta: float

    @classmethod
    def from_calibration_set(
        cls, calibration_set: CalibrationSet, *, delta: float
    ) -> HighProbabilityCurve:
        """Make the curve of scenes that were drawn independently from one law.

        The order in which scenes first occur must be independent of their losses. δ in (0, 1) is
        fixed in advance.

        Raises:
            ValueError: delta outside (0, 1), or as `CalibrationSet.by_scene`.
        """
        _check_delta(delta)
        grouped, bound = calibration_set.by_scene(), calibration_set.bound
        drawn = list(compress(grouped, keep_by_weight([float(scene.weight) for scene in grouped])))
        n = len(drawn)
        levels, bounds = _bounds(drawn, bound, delta)
        running = np.maximum.accumulate(np.append(_floor(n, delta), bounds))
        values = np.minimum(running * (bound * _SAFE), bound)
        return cls(
            n,
            float(bound),
            *rises(levels, values),
            delta,
            highest=float(calibration_set.highest),
        )


def minimal_n(alpha: float, bound: float, delta: float) -> int:
    """Return the smallest n for which n scenes without any loss certify α; useful masks need more.

    It is exact up to 5,000 scenes; above, a number that is necessary: log(1/δ)/log(1 + α/B).

    Raises:
        ValueError: alpha or bound is not a positive number, or delta is not in (0, 1).
    """
    if not (0 < alpha < math.inf and 0 < bound < math.inf):
        raise ValueError("alpha and bound must be positive numbers")
    _check_delta(delta)
    if alpha >= bound:
        return 0
    growth = math.log1p(alpha / bound)
    n = max(1, math.ceil(math.log(1 / delta) / growth * (1 - 1e-9)))
    while n < 5000 and _floor(n, delta) * (bound * _SAFE) > alpha:
        n += 1
    return n


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise ValueError("delta must be between 0 and 1")


def _floor(n: int, delta: float) -> float:
    """The bound on E[x] for n scenes without any loss."""
    return float(wsr_bound(np.zeros(n), delta)) if n else 1.0


def _bounds(
    scenes: Sequence[Scene], bound: float, delta: float
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The levels, and U from each on, for levels on a grid fixed before any measurement.

    This bound may fall when a loss grows, so the data must not choose its thresholds. Each level of
    each loss curve is rounded down to the grid, which can only raise a loss.
    """
    spots = [
        (
            place,
            coarse_down(curve.levels),
            np.append(0, curve.errors.astype(np.float64)) * (count / sum(scene.counts) / bound),
        )
        for place, scene in enumerate(scenes)
        for curve, count in zip(scene.curves, scene.counts, strict=True)
    ]
    levels = np.unique(np.concatenate([*(own for _, own, _ in spots), np.empty(0, np.float32)]))
    bounds = np.empty(len(levels))
    for start in range(0, len(levels), _BLOCK):
        block = levels[start : start + _BLOCK]
        x = np.zeros((len(scenes), len(block)))
        for place, own, losses in spots:
            x[place] += losses[np.searchsorted(own, block, side="right")]
        bounds[start : start + _BLOCK] = wsr_bound(np.minimum(x * _SAFE, 1), delta)
    return levels, bounds


def wsr_bound(x: NDArray[np.float64], delta: float) -> NDArray[np.float64]:
    """Return U = inf{A : p(A) ≤ δ}, at most 2^-20 too large, float64 [...] in (0, 1].

    x: float64 [n, ...] in [0, 1], in an order that is independent of the values.
    """
    bet = bets(x, delta, _PRIOR, largest=1.0)
    low = np.zeros(x.shape[1:])
    high = np.ones(x.shape[1:])  # no expectation exceeds 1
    for _ in range(20):
        middle = (low + high) / 2
        passes = largest_wealth(x, bet, middle) * delta >= 1  # grows with A
        high = np.where(passes, middle, high)
        low = np.where(passes, low, middle)
    return high
