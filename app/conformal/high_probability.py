"""The guarantee with high probability: risk-controlling thresholds (RCPS).

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

**Two p-values** of n independent values x_i in [0, 1] of one law with expectation μ. Both fall
when A grows.

- *WSR betting* (Waudby-Smith and Ramdas 2020, as in Bates et al. 2021): the wealth K_j =
  Π_{i ≤ j} (1 − λ_i (x_i − A)), where λ_i ∈ [0, 1] depends on x_1 … x_{i−1} only, is a
  supermartingale if μ ≥ A, so 1/max_j K_j is a p-value (Ville). It gains where the values vary
  little. It takes the scenes in turn, so their order must be independent of their losses, which an
  order by names (of cameras, of days) need not be. On the shipped calibrations it trusts .08 to .09
  more than the bound of Hoeffding and Bentkus at every α, in each of the 24 classes.
- *Clopper-Pearson* is exact for values that are 0 or 1, k of them 1: the A with P(Bin(n, A) ≤ k) =
  δ. A scene is lost if one of its crops is.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from trustscale_server.conformal.curve import LARGEST, StepCurve, by_scene
from trustscale_server.conformal.loss_curve import LossCurve

Method = Literal["wsr", "clopper_pearson"]

_BLOCK = 256  # thresholds per block of the WSR bound: its temporaries stay small
_MOST_SEARCHED = 5_000  # scenes, up to which the least number for WSR is looked for exactly

_BISECTIONS = 20  # of the WSR bound: it is at most 2^-20 too large

# Bounds in floating point are enlarged by more than their error.
SAFE = 1 + 1e-10

# WSR tests at values of σ with this many leading binary digits: steps of at most 1.6 %.
_MANTISSA_KEPT = 6


@dataclass(frozen=True, eq=False)
class HighProbabilityCurve(StepCurve):
    """max_{s ≤ t} U(s) · B: with probability ≥ 1 − δ, the mask {σ < t_α} has expected loss ≤ α.

    `min_alpha` is the bound for n scenes without any loss.
    """

    delta: float
    method: Method

    @classmethod
    def from_loss_curves(
        cls,
        loss_curves: Iterable[LossCurve],
        bound: float,
        *,
        delta: float,
        method: Method = "wsr",
        scenes: Iterable[Hashable] | None = None,
        highest: float = LARGEST,
    ) -> HighProbabilityCurve:
        """As `RiskCurve.from_loss_curves`, of scenes drawn independently from one law.

        For `wsr` the order in which scenes first occur must be independent of their losses;
        `clopper_pearson` is for errors of 0 or B only. δ in (0, 1) and the method are fixed in
        advance.

        Raises:
            ValueError: delta outside (0, 1), other errors for `clopper_pearson`, or as `by_scene`.
        """
        _check_delta(delta)
        crops = by_scene(loss_curves, bound, scenes)
        levels, bounds = _STEPS[method](crops, bound, delta)
        floor = _floor(len(crops), delta, method)
        running = np.maximum.accumulate(np.append(floor, bounds))
        risks = np.minimum(running * (bound * SAFE), bound)
        rises = np.diff(risks) > 0
        return cls(
            len(crops),
            float(bound),
            float(risks[0]),
            levels[rises],
            risks[1:][rises],
            delta,
            method,
            highest=float(highest),
        )


def minimal_n(alpha: float, bound: float, delta: float, method: Method = "wsr") -> int:
    """The smallest n for which n scenes without any loss certify α; useful masks need more.

    For WSR and more than 5,000 scenes, a necessary number: log(1/δ)/log(1 + α/B).

    Raises:
        ValueError: alpha or bound is not a positive number, or delta is not in (0, 1).
    """
    if not (0 < alpha < math.inf and 0 < bound < math.inf):
        raise ValueError("alpha and bound must be positive numbers")
    _check_delta(delta)
    if alpha >= bound:
        return 0
    share = alpha / bound
    growth = math.log1p(share) if method == "wsr" else -math.log1p(-share)
    n = max(1, math.ceil(math.log(1 / delta) / growth * (1 - 1e-9)))
    while (method != "wsr" or n < _MOST_SEARCHED) and _floor(n, delta, method) * (
        bound * SAFE
    ) > alpha:
        n += 1
    return n


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise ValueError("delta must be between 0 and 1")


def _floor(n: int, delta: float, method: Method) -> float:
    """The bound on E[x] for n scenes without any loss."""
    if n == 0:
        return 1.0
    if method == "wsr":
        return float(wsr_bound(np.zeros(n), delta))
    return float(clopper_pearson_bound(0, n, delta))


def _wsr_steps(
    scenes: Sequence[Sequence[LossCurve]], bound: float, delta: float
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The levels, and U from each on, for levels on a grid fixed before any measurement.

    This bound may fall when a loss grows, so the data must not choose its thresholds. Each level of
    each loss curve is rounded down to the grid, which can only raise a loss.
    """
    rounded = [[rounded_down(crop.levels) for crop in crops] for crops in scenes]
    steps = [
        [np.append(0, crop.errors.astype(np.float64) / bound) for crop in crops] for crops in scenes
    ]
    own = [crop for crops in rounded for crop in crops]
    levels = np.unique(np.concatenate([*own, np.empty(0, np.float32)]))
    bounds = np.empty(len(levels))
    for start in range(0, len(levels), _BLOCK):
        block = slice(start, start + _BLOCK)
        x = np.zeros((len(scenes), len(levels[block])))
        for scene, (of_scene, of_steps) in enumerate(zip(rounded, steps, strict=True)):
            for crop, step in zip(of_scene, of_steps, strict=True):
                x[scene] += step[np.searchsorted(crop, levels[block], side="right")]
            x[scene] /= len(of_scene)
        bounds[block] = wsr_bound(np.minimum(x * SAFE, 1), delta)
    return levels, bounds


def _clopper_pearson_steps(
    scenes: Sequence[Sequence[LossCurve]], bound: float, delta: float
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The levels at which a scene is first lost, and U from each on."""
    if any(len(crop) > 1 or (crop.errors < bound).any() for crops in scenes for crop in crops):
        raise ValueError("clopper_pearson is for errors of 0 or B")
    lost = [
        min(crop.levels[0] for crop in crops if len(crop))
        for crops in scenes
        if any(map(len, crops))
    ]
    levels, counts = np.unique(np.array(lost, np.float32), return_counts=True)
    return levels, clopper_pearson_bound(np.cumsum(counts), max(1, len(scenes)), delta)


_STEPS = {
    "wsr": _wsr_steps,
    "clopper_pearson": _clopper_pearson_steps,
}


def rounded_down(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """The largest float32 with a short mantissa that is not above each level; 0 stays 0."""
    dropped = np.uint32((1 << (23 - _MANTISSA_KEPT)) - 1)
    bits = (levels + np.float32(0)).view(np.uint32)  # −0 becomes 0
    bits = np.where(levels < 0, bits + dropped, bits)  # sign and magnitude: down is away from 0
    return np.asarray(bits & ~dropped).view(np.float32)


def clopper_pearson_bound(count: ArrayLike, n: int, delta: float) -> NDArray[np.float64]:
    """U with P(Bin(n, U) ≤ k) = δ, rounded up, for `count` k of n values that are 1, any shape."""
    k = np.asarray(count, np.float64)
    inside = np.minimum(k, n - 1)  # P(Bin(n, A) ≤ k) = 1 − I_A(k + 1, n − k)
    bound = np.where(k < n, scipy.special.betainccinv(inside + 1, n - inside, delta), 1.0)
    return np.asarray(np.minimum(bound * SAFE, 1.0))


def wsr_bound(x: NDArray[np.float64], delta: float) -> NDArray[np.float64]:
    """U = inf{A : p(A) ≤ δ} of the WSR p-value, at most 2^-20 too large: float64 [...] in (0, 1].

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
