"""Two further guarantees: with high probability, and for an α that is chosen after looking.

**High probability**, by risk-controlling thresholds (RCPS). `RiskCurve` bounds the expected loss on
average over calibrations; this is about the calibration at hand. With probability at least 1 − δ
over its n scenes, drawn independently from one law, the expected loss of a crop of a new scene,
E[L(t̂−) | calibration], is at most α.

**As one curve.** Let x_i(t) = L̄_i(t−)/B ∈ [0, 1] be the mean over the crops of scene i, and
p(t, A) a valid p-value for "E[x(t)] > A". Thresholds are tested upwards, until the first one with
p(t, α/B) > δ. The number of tests needs no correction: with t_pop = sup{t : E[L(t−)] ≤ α}, attained
since L(t−) is left-continuous, a t̂ beyond t_pop needs a wrong rejection at every fixed t of
(t_pop, t̂]; these events shrink as t grows, so their union has probability ≤ δ. Since p falls in A,
p(t, A) ≤ δ is U(t) ≤ A for the upper confidence bound U(t) = inf{A : p(t, A) ≤ δ}. So all smaller
thresholds pass if max_{s ≤ t} U(s) ≤ A, and this running maximum, times B, is a step curve with the
thresholds of all α. Each α fixed in advance has its promise; the bound is not simultaneous over α.

**Weights.** Of scenes with weights W_i (`curve.py`) each is kept with the probability W_i, by
random numbers that are fixed beforehand. Those that are kept are independent draws of scenes of the
class, and each loses its weighted mean L̄_i.

**The p-value** of n independent values x_i in [0, 1] of one law with expectation μ, by betting
(Waudby-Smith and Ramdas 2020, as in Bates et al. 2021): the wealth K_j = Π_{i ≤ j} (1 − λ_i (x_i −
A)), where λ_i ∈ [0, 1] depends on x_1 … x_{i−1} only, is a supermartingale if μ ≥ A, so 1/max_j K_j
is a p-value (Ville), and falls when A grows. It gains where the values vary little. It takes the
scenes in turn, so their order must be independent of their losses, which an order by names (of
cameras, of days) need not be. On the shipped calibrations it trusts .08 to .09 more than the bound
of Hoeffding and Bentkus at every α.

**Post-hoc α**, chosen after looking: at the picture, its masks, everything. Let A be a set of risk
levels and a(t) an increasing *shape*, both fixed without a look at the calibration scenes. For a
scale s > 0 let t_α(s) be the t with a(t) = s α, and for image i

    G_i(s) = max over α ∈ A of L_i(t_α(s)−) / α            at most B / min A

with the loss of the strict mask {σ < t_α(s)}. G_i rises with s, so conformal risk control applies
to it, at level 1. With Ḡ_i the mean over the spots of scene i by their weights, and W_i these
(`curve.py`),

    ŝ = some s with (Σ_i W_i Ḡ_i(s) + B / min A) / (Σ_i W_i + 1) ≤ 1
    ⇒    E[max over α ∈ A of L(t_α(ŝ)−)/α] ≤ 1

for one new spot of a new scene (conditions as in `curve.py`), hence E[L(t_α̃(ŝ)−)/α̃] ≤ 1 for any
α̃ ∈ A, however chosen. Below min A the mask is empty, above max A it is that of max A, so any α ≥ 0
may be chosen. *Why any such s:* with K scenes and f_i = W_i (Ḡ_i − 1), at most B / min A − 1, let
s′ = sup{s : Σ_{i ≤ K+1} f_i(s) ≤ 0} and H_i = f_i(s′) if s′ itself is in this set, else f_i(s′−). H
is symmetric in the K + 1 scenes and sums to at most 0; ŝ is in the set, so f_{K+1}(ŝ) ≤ H_{K+1}.

A fine menu stands for an interval: α is rounded down to it, which only lowers L/α.

The mask of any α is inside that of `RiskCurve` for it: (Σ W_i L̄_i + B α/min A)/(ΣW_i + 1) ≤ α.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trustscale_server.conformal.curve import (
    CODE_STEPS,
    LARGEST,
    LossCurve,
    Scene,
    StepCurve,
    by_scene,
    coarse_down,
    exceeded_by,
    total_weight,
)

# --- The guarantee with high probability: risk-controlling thresholds (RCPS).

_BLOCK = 256  # thresholds per block of the WSR bound: its temporaries stay small
_MOST_SEARCHED = 5_000  # scenes, up to which the least number for WSR is looked for exactly

_BISECTIONS = 20  # of the WSR bound: it is at most 2^-20 too large

# Bounds in floating point are enlarged by more than their error.
SAFE = 1 + 1e-10


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
        risks = np.minimum(running * (bound * SAFE), bound)
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
    while n < _MOST_SEARCHED and _floor(n, delta) * (bound * SAFE) > alpha:
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
        bounds[block] = wsr_bound(np.minimum(x * SAFE, 1), delta)
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


# --- The guarantee for an α that is chosen after looking: at the picture, its masks, everything.

_PER_DOUBLING = 512  # scales s: a fixed grid, so fine that it costs at most 0.14 % of α
_STEPS = 256  # of a menu that stands for an interval
_KNOTS, _RANGE = 16, 100  # of a shape: from a hundredth of its largest risk on


@dataclass(frozen=True, slots=True)
class Shape:
    """A risk a(t) whose log is piecewise linear in log t through knots, straight beyond them.

    levels, risks: of the knots, at least two, above 0 and strictly increasing.
    """

    levels: tuple[float, ...]
    risks: tuple[float, ...]

    def __post_init__(self) -> None:
        for knots in (self.levels, self.risks):
            if len(knots) != len(self.levels) or len(knots) < 2:
                raise ValueError("a shape has two knots or more, each a level and a risk")
            if not all(0 < a < b < math.inf for a, b in pairwise(knots)):
                raise ValueError("the knots of a shape must be above 0 and strictly increasing")

    @classmethod
    def power(cls, exponent: float) -> Shape:
        """Return a(t) = t^p."""
        return cls((1.0, 2.0), (1.0, 2.0**exponent))

    @classmethod
    def of(
        cls, loss_curves: Iterable[LossCurve], scenes: Iterable[Hashable] | None = None
    ) -> Shape | None:
        """Return the mean loss of images that calibrate nothing; None with too few breakpoints."""
        images = by_scene(loss_curves, LARGEST, scenes)
        known = [curve.levels for scene in images for curve in scene.curves]
        levels = np.unique(np.concatenate([*known, np.empty(0, np.float32)]))
        levels = levels[levels > 0]
        mean = np.zeros(len(levels))
        for scene in images:
            for curve, weight in zip(scene.curves, scene.weights, strict=True):
                mean += curve.losses(levels, "right") * (weight / len(images))
        if not len(mean):
            return None
        risks = np.geomspace(max(mean[0], mean[-1] / _RANGE), mean[-1], _KNOTS)
        places = np.unique(np.searchsorted(mean, risks * (1 - 1e-9)))
        knots = levels[places].tolist(), mean[places].tolist()
        return cls(*map(tuple, knots)) if len(places) > 1 else None

    def risk(self, level: ArrayLike) -> NDArray[np.float64]:
        """a(t), for t > 0."""
        return _through(self.levels, self.risks, level)

    def level(self, risk: ArrayLike) -> NDArray[np.float64]:
        """Return the t with a(t) = risk, for a risk above 0."""
        return _through(self.risks, self.levels, risk)


def _through(x: Sequence[float], y: Sequence[float], at: ArrayLike) -> NDArray[np.float64]:
    xs, ys, place = np.log(x), np.log(y), np.log(np.asarray(at, np.float64))
    piece = np.clip(np.searchsorted(xs, place) - 1, 0, len(xs) - 2)
    slope = (ys[piece + 1] - ys[piece]) / (xs[piece + 1] - xs[piece])
    with np.errstate(over="ignore"):
        return np.asarray(np.exp(ys[piece] + slope * (place - xs[piece])))


def menu_between(low: float, high: float) -> tuple[float, ...]:
    """Return a menu that stands for all α of an interval."""
    return tuple(np.geomspace(low, high, _STEPS).tolist())


@dataclass(frozen=True, eq=False)
class PostHocCurve(StepCurve):
    """A curve that gives each σ the smallest α of the menu at which it is trusted.

    `min_alpha` is that of the menu, or B where too few scenes hold any of it.

    ratio: L/α exceeds it in one of ten pictures, whatever α is chosen; None: too few scenes to say.
    """

    ratio: float | None

    @classmethod
    def from_loss_curves(
        cls,
        loss_curves: Iterable[LossCurve],
        bound: float,
        *,
        menu: Sequence[float],
        shape: Shape,
        scenes: Iterable[Hashable] | None = None,
        weights: Iterable[Fraction] | None = None,
        highest: float = LARGEST,
    ) -> PostHocCurve:
        """Make the curve; menu A and shape a are fixed without the images.

        Raises:
            ValueError: the menu is empty or does not rise from above 0, or as `by_scene`.
        """
        images = by_scene(loss_curves, bound, scenes, weights)
        n = total_weight(images)
        alphas = on_codes(np.array(menu, np.float64), bound)
        search = _Search(images, alphas, shape, highest)
        largest = bound / alphas[0]
        scale = search.largest(lambda ratios: (ratios + largest) / (n + 1) <= 1)
        if scale is None:
            nothing = np.empty(0, np.float32), np.empty(0)
            return cls(n, float(bound), float(bound), *nothing, None, highest=-math.inf)
        lenient = search.largest(lambda ratios: ratios / (n + 1) <= 1)
        thresholds = search.thresholds(scale)
        rises = np.append(True, thresholds[1:] > thresholds[:-1])
        thresholds, values = thresholds[rises], alphas[rises]
        return cls(
            n,
            float(bound),
            float(values[0]),
            thresholds[:-1],
            values[1:],
            None if lenient is None else search.exceeded(lenient),
            highest=float(np.nextafter(thresholds[-1], np.float32(-np.inf))),
        )


def on_codes(menu: NDArray[np.float64], bound: float) -> NDArray[np.float64]:
    """Lower each α by at most 1.5 codes, so that its own code holds its mask."""
    if not len(menu) or not (np.diff(menu, prepend=0) > 0).all():
        raise ValueError("a menu of risk levels must rise, from above 0")
    codes = np.floor(menu / bound * CODE_STEPS) - 0.5
    if codes[0] < 0:
        raise ValueError("the smallest risk level of the menu is too small")
    return np.unique(codes * (bound / CODE_STEPS))


class _Search:
    """The sums Σ_i Ḡ_i(s) on the grid of scales, by the place of s in it."""

    def __init__(
        self, scenes: Sequence[Scene], alphas: NDArray[np.float64], shape: Shape, highest: float
    ) -> None:
        self.scenes, self.alphas, self.shape = scenes, alphas, shape
        with np.errstate(over="ignore"):
            self.end = np.nextafter(np.float32(highest), np.float32(np.inf))
        crops = [
            (curve, weight)
            for scene in scenes
            for curve, weight in zip(scene.curves, scene.weights, strict=True)
            if len(curve)
        ]
        self.levels = np.concatenate([*(c.levels for c, _ in crops), np.empty(0, np.float32)])
        self.errors = np.concatenate([*(c.errors for c, _ in crops), np.empty(0, np.float32)])
        self.starts = np.cumsum([0, *(len(crop) for crop, _ in crops)])[:-1]
        self.weights = np.array([weight for _, weight in crops])

    def thresholds(self, place: int) -> NDArray[np.float32]:
        """t_α(s) of each α; at most just above the largest σ."""
        levels = self.shape.level(self.alphas * 2.0 ** (place / _PER_DOUBLING))
        with np.errstate(over="ignore"):
            return np.minimum(levels.astype(np.float32), self.end)

    def ratios(self, place: int) -> NDArray[np.float64]:
        """G(s) of each spot with any error: a breakpoint counts with the least α that trusts it."""
        least = np.searchsorted(self.thresholds(place), self.levels, side="right")
        ratio = self.errors / np.append(self.alphas, np.inf)[least]
        return np.maximum.reduceat(ratio, self.starts) if len(ratio) else ratio

    def exceeded(self, place: int) -> float | None:
        """What G(s) exceeds in few spots; None: too few scenes to say."""
        spots = iter(self.ratios(place).tolist())
        ratios = [
            np.array([next(spots) if len(curve) else 0.0 for curve in scene.curves])
            for scene in self.scenes
        ]
        return exceeded_by(ratios, [scene.weights for scene in self.scenes])

    def largest(self, fits: Callable[[float], bool]) -> int | None:
        """The last place of the grid at which the sum fits; None: not even the first."""
        positive = self.levels[self.levels > 0]
        ends = [positive.min(initial=1), max(min(self.end, LARGEST), positive.max(initial=1))]
        scales = np.log2(self.shape.risk(ends) / self.alphas[[-1, 0]]) * _PER_DOUBLING
        low, high = int(np.floor(scales.min())) - 1, int(np.ceil(scales.max())) + 1
        if not fits(self._sum(low)):
            return None
        while high - low > 1:  # it fits at `low`; beyond `high` nothing changes
            middle = (low + high) // 2
            low, high = (middle, high) if fits(self._sum(middle)) else (low, middle)
        return low

    def _sum(self, place: int) -> float:
        return math.fsum(self.ratios(place) * self.weights)
