"""The guarantee for an α that is chosen after looking: at the picture, its masks, everything.

Let A be a set of risk levels and a(t) an increasing *shape*, both fixed without a look at the
calibration scenes. For a scale s > 0 let t_α(s) be the t with a(t) = s α, and for image i

    G_i(s) = max over α ∈ A of L_i(t_α(s)−) / α            at most B / min A

with the loss of the strict mask {σ < t_α(s)}. G_i rises with s, so conformal risk control applies
to it, at level 1. With Ḡ_i the mean over the spots of scene i by their weights, and W_i these
(`scenes.py`),

    ŝ = some s with (Σ_i W_i Ḡ_i(s) + B / min A) / (Σ_i W_i + 1) ≤ 1
    ⇒    E[max over α ∈ A of L(t_α(ŝ)−)/α] ≤ 1

for one new spot of a new scene (conditions as in `risk_curve`), hence E[L(t_α̃(ŝ)−)/α̃] ≤ 1 for any
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

from trustscale_server.conformal.code_table import CODE_STEPS
from trustscale_server.conformal.loss_curve import LossCurve
from trustscale_server.conformal.risk_curve import LARGEST, USUALLY, StepCurve, exceeded_by
from trustscale_server.conformal.robust import cut_share
from trustscale_server.conformal.scenes import Scene, by_scene, total_weight

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
    def from_loss_curves(
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
        robust: float = 1.0,
        scenes: Iterable[Hashable] | None = None,
        pictures: Iterable[Hashable] | None = None,
        weights: Iterable[Fraction] | None = None,
        highest: float = LARGEST,
    ) -> PostHocCurve:
        """Make the curve; menu A and shape a are fixed without the images.

        robust, pictures: Γ, and the picture of each curve (`robust.py`); default: its scene.

        Raises:
            ValueError: the menu is empty or does not rise from above 0, or as `by_scene`.
        """
        images = by_scene(loss_curves, bound, scenes if pictures is None else pictures, weights)
        n, kappa = total_weight(images), cut_share(robust)
        alphas = on_codes(np.array(menu, np.float64), bound)
        search = _Search(images, alphas, shape, highest, robust)
        largest = kappa + robust * max(bound / alphas[0] - kappa, 0)
        scale = search.largest(lambda ratios: (ratios + largest) / (n + 1) <= 1)
        if scale is None:
            nothing = np.empty(0, np.float32), np.empty(0)
            return cls(n, float(bound), float(bound), *nothing, None, highest=-math.inf)
        lenient = search.largest(lambda ratios: (ratios + kappa) / (n + 1) <= 1)
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
    """The sums Σ_i W_i Ḡ′_i(s) on the grid of scales, by the place of s in it."""

    def __init__(
        self,
        scenes: Sequence[Scene],
        alphas: NDArray[np.float64],
        shape: Shape,
        highest: float,
        robust: float,
    ) -> None:
        self.scenes, self.alphas, self.shape, self.robust = scenes, alphas, shape, robust
        with np.errstate(over="ignore"):
            self.end = np.nextafter(np.float32(highest), np.float32(np.inf))
        crops = [
            (curve, weight, place)
            for place, scene in enumerate(scenes)
            for curve, weight in zip(scene.curves, scene.weights, strict=True)
            if len(curve)
        ]
        self.levels = np.concatenate([*(c.levels for c, _, _ in crops), np.empty(0, np.float32)])
        self.errors = np.concatenate([*(c.errors for c, _, _ in crops), np.empty(0, np.float32)])
        self.starts = np.cumsum([0, *(len(crop) for crop, _, _ in crops)])[:-1]
        self.weights = np.array([weight for _, weight, _ in crops])
        self.places = np.array([place for _, _, place in crops], np.int64)
        self.of_scenes = np.array([float(scene.weight) for scene in scenes])

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
        return exceeded_by(ratios, [scene.weights for scene in self.scenes], USUALLY / self.robust)

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
        ratios = self.ratios(place) * self.weights
        if self.robust == 1:
            return math.fsum(ratios)
        sums = np.bincount(self.places, ratios, minlength=len(self.scenes))
        cut = cut_share(self.robust) * self.of_scenes
        return math.fsum(cut + self.robust * np.maximum(sums - cut, 0))
