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

**Weights.** Of scenes with weights W_i (`scenes.py`) each is kept with the probability W_i, by
random numbers that are fixed beforehand. Those that are kept are independent draws of scenes of the
class, and each loses its weighted mean L̄_i.

**The p-value** of n independent values x_i in [0, 1] of one law with expectation μ, by betting
(Waudby-Smith and Ramdas 2020, as in Bates et al. 2021): the wealth K_j = Π_{i ≤ j} (1 − λ_i (x_i −
A)), where λ_i ∈ [0, 1] depends on x_1 … x_{i−1} only, is a supermartingale if μ ≥ A, so 1/max_j K_j
is a p-value (Ville), and falls when A grows. It gains where the values vary little. It takes the
scenes in turn, so their order must be independent of their losses, which an order by names (of
cameras, of days) need not be. On the shipped calibrations it trusts .08 to .09 more than the bound
of Hoeffding and Bentkus at every α.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from trustscale_server.conformal.loss_curve import LossCurve, coarse_down
from trustscale_server.conformal.scenes import Scene, by_scene
from trustscale_server.conformal.step_curve import LARGEST, StepCurve

_BLOCK = 256  # thresholds per block of the WSR bound: its temporaries stay small
_MAX_SEARCHED = 5_000  # scenes, up to which the least number for WSR is looked for exactly

_BISECTIONS = 20  # of the WSR bound: it is at most 2^-20 too large

# Bounds in floating point are enlarged by more than their error.
_SAFE = 1 + 1e-10


@dataclass(frozen=True, eq=False)
class HighProbabilityCurve(StepCurve):
    """max_{s ≤ t} U(s) · B: with probability ≥ 1 − δ, the mask {σ < t_α} has expected loss ≤ α.

    `min_alpha` is the bound for n scenes without any loss.
    """

    delta: float

    @classmethod
    def from_loss_curves(
        cls,
        loss_curves: Iterable[LossCurve],
        bound: float,
        *,
        delta: float,
        scenes: Iterable[Hashable] | None = None,
        weights: Iterable[Fraction] | None = None,
        highest: float = LARGEST,
    ) -> HighProbabilityCurve:
        """Make the curve of scenes that were drawn independently from one law.

        The order in which scenes first occur must be independent of their losses. δ in (0, 1) is
        fixed in advance.

        Raises:
            ValueError: delta outside (0, 1), or as `by_scene`.
        """
        _check_delta(delta)
        crops = _kept(by_scene(loss_curves, bound, scenes, weights))
        levels, bounds = _steps(crops, bound, delta)
        floor = _floor(len(crops), delta)
        running = np.maximum.accumulate(np.append(floor, bounds))
        risks = np.minimum(running * (bound * _SAFE), bound)
        rises = np.diff(risks) > 0
        return cls(
            len(crops),
            float(bound),
            float(risks[0]),
            levels[rises],
            risks[1:][rises],
            delta,
            highest=float(highest),
        )


def minimal_n(alpha: float, bound: float, delta: float) -> int:
    """Return the smallest n for which n scenes without any loss certify α; useful masks need more.

    For more than 5,000 scenes a necessary number: log(1/δ)/log(1 + α/B).

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
    while n < _MAX_SEARCHED and _floor(n, delta) * (bound * _SAFE) > alpha:
        n += 1
    return n


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise ValueError("delta must be between 0 and 1")


def _floor(n: int, delta: float) -> float:
    """The bound on E[x] for n scenes without any loss."""
    return float(wsr_bound(np.zeros(n), delta)) if n else 1.0


def _kept(scenes: Sequence[Scene]) -> list[Scene]:
    """Each scene with the probability of its weight."""
    drawn = np.random.Generator(np.random.PCG64(0)).random(len(scenes))
    return [s for s, number in zip(scenes, drawn, strict=True) if number < float(s.weight)]


def _steps(
    scenes: Sequence[Scene], bound: float, delta: float
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The levels, and U from each on, for levels on a grid fixed before any measurement.

    This bound may fall when a loss grows, so the data must not choose its thresholds. Each level of
    each loss curve is rounded down to the grid, which can only raise a loss.
    """
    rounded = [[coarse_down(curve.levels) for curve in scene.curves] for scene in scenes]
    steps = [
        [
            np.append(0, curve.errors.astype(np.float64)) * (count / sum(scene.counts) / bound)
            for curve, count in zip(scene.curves, scene.counts, strict=True)
        ]
        for scene in scenes
    ]
    own = [curve for curves in rounded for curve in curves]
    levels = np.unique(np.concatenate([*own, np.empty(0, np.float32)]))
    bounds = np.empty(len(levels))
    for start in range(0, len(levels), _BLOCK):
        block = slice(start, start + _BLOCK)
        x = np.zeros((len(scenes), len(levels[block])))
        for scene, (of_scene, of_steps) in enumerate(zip(rounded, steps, strict=True)):
            for crop, step in zip(of_scene, of_steps, strict=True):
                x[scene] += step[np.searchsorted(crop, levels[block], side="right")]
        bounds[block] = wsr_bound(np.minimum(x * _SAFE, 1), delta)
    return levels, bounds


def wsr_bound(x: NDArray[np.float64], delta: float) -> NDArray[np.float64]:
    """Return U = inf{A : p(A) ≤ δ} of the WSR p-value, float64 [...] in (0, 1].

    It is at most 2^-20 too large.

    x: float64 [n, ...] in [0, 1], in an order that is independent of the values.
    """
    bets = _bets(x, delta)
    low = np.zeros(x.shape[1:])
    high = np.ones(x.shape[1:])  # no expectation exceeds 1
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        passes = _wealth(x, bets, middle) * delta >= 1  # grows with A
        high = np.where(passes, middle, high)
        low = np.where(passes, low, middle)
    return high


def _bets(x: NDArray[np.float64], delta: float) -> NDArray[np.float64]:
    """λ_i = min(1, √(2 log(1/δ)/(n v_{i−1}))), v the running variance with a prior of one value."""
    n = len(x)
    count = np.arange(1, n + 1, dtype=np.float64).reshape(-1, *[1] * (x.ndim - 1))
    mean = (0.5 + np.cumsum(x, axis=0)) / (count + 1)
    variance = (0.25 + np.cumsum((x - mean) ** 2, axis=0)) / (count + 1)
    before = np.concatenate([np.full((1, *x.shape[1:]), 0.25), variance[:-1]])
    return np.asarray(np.minimum(1.0, np.sqrt(2 * math.log(1 / delta) / (n * before))))


def _wealth(
    x: NDArray[np.float64], bets: NDArray[np.float64], share: NDArray[np.float64] | np.float64
) -> NDArray[np.float64]:
    """max_j K_j; A has the shape of x without its first axis.

    An overflow is infinite, which rejects as it should; an underflow stays 0, which does not.
    """
    with np.errstate(over="ignore", under="ignore"):
        factors = bets * (share - x)
        factors += 1
        np.multiply.accumulate(factors, axis=0, out=factors)
        return np.asarray(factors.max(axis=0))
