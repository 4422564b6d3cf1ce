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

The thresholds are cut at the largest σ of the images only once ŝ is found. That σ follows from the
n scenes, so G of thresholds that are cut would not be symmetric in the n + 1 (test_post_hoc.py has
an example).

A fine menu stands for an interval: α is rounded down to it, which only lowers L/α.

The mask of any α is inside that of `RiskCurve` for it: (Σ W_i L̄_i + B α/min A)/(ΣW_i + 1) ≤ α.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trustscale_server.conformal.calibration_set import CalibrationSet
from trustscale_server.conformal.loss_curve import LossCurves
from trustscale_server.conformal.risk_curve import EXCEEDING_SHARE, exceeded_by
from trustscale_server.conformal.risk_shape import Shape
from trustscale_server.conformal.robust import cut_share
from trustscale_server.conformal.scenes import Scene, total_weight
from trustscale_server.conformal.step_curve import CODE_STEPS, LARGEST, StepCurve, just_above

_MAX_DOUBLINGS = 1000  # of s, up or down
_PER_DOUBLING = 512  # scales s: a fixed grid, so fine that it costs at most 0.14 % of α


def menu_between(low: float, high: float) -> tuple[float, ...]:
    """Return a menu of 256 risk levels that stands for all α of an interval."""
    return tuple(np.geomspace(low, high, 256).tolist())


@dataclass(frozen=True, eq=False)
class PostHocCurve(StepCurve):
    """A curve that gives each σ the smallest α of the menu at which it is trusted.

    `min_alpha` is that of the menu, or B where too few scenes hold any of it.

    ratio: L/α exceeds it in at most one of ten spots, whatever α is chosen; None: too few scenes to
    say.
    """

    ratio: float | None

    @classmethod
    def from_calibration_set(
        cls,
        calibration_set: CalibrationSet,
        *,
        menu: Sequence[float],
        shape: Shape,
        robust: float = 1.0,
    ) -> PostHocCurve:
        """Make the curve; menu A, shape a and Γ (`robust.py`) are fixed without the images.

        Raises:
            ValueError: the menu is empty or does not rise from above 0, or as
                `CalibrationSet.by_picture`.
        """
        grouped, bound = calibration_set.by_picture(), calibration_set.bound
        n, kappa = total_weight(grouped), cut_share(robust)
        alphas = on_codes(np.array(menu, np.float64), bound)
        search = _Search(grouped, alphas, shape, robust)
        scale = search.largest(kappa + robust * max(bound / alphas[0] - kappa, 0))
        if scale is None:
            nothing = np.empty(0, np.float32), np.empty(0)
            return cls(n, float(bound), float(bound), *nothing, None, highest=-math.inf)
        lenient = search.largest(kappa)
        end = just_above(calibration_set.highest)
        thresholds = np.minimum(search.thresholds(scale), end)
        is_rise = np.append(True, thresholds[1:] > thresholds[:-1])
        thresholds, values = thresholds[is_rise], alphas[is_rise]
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
        robust: float,
    ) -> None:
        self.scenes, self.alphas, self.shape, self.robust = scenes, alphas, shape, robust
        spots = [
            (curve, weight, place)
            for place, scene in enumerate(scenes)
            for curve, weight in zip(scene.curves, scene.weights, strict=True)
            if len(curve)
        ]
        self.curves = LossCurves.from_curves(curve for curve, _, _ in spots)
        self.weights = np.array([weight for _, weight, _ in spots])
        self.places = np.array([place for _, _, place in spots], np.int64)
        self.of_scenes = np.array([float(scene.weight) for scene in scenes])
        self.n = total_weight(scenes)

    def thresholds(self, place: int) -> NDArray[np.float32]:
        """t_α(s) of each α."""
        levels = self.shape.level(self.alphas * 2.0 ** (place / _PER_DOUBLING))
        with np.errstate(over="ignore"):
            return np.asarray(levels.astype(np.float32))

    def ratios(self, place: int) -> NDArray[np.float64]:
        """G(s) of each spot with any error: a breakpoint counts with the least α that trusts it."""
        least = np.searchsorted(self.thresholds(place), self.curves.levels, side="right")
        ratio = self.curves.errors / np.append(self.alphas, np.inf)[least]
        return np.maximum.reduceat(ratio, self.curves.starts) if len(ratio) else ratio

    def exceeded(self, place: int) -> float | None:
        """What G(s) exceeds in few spots; None: too few scenes to say."""
        spots = iter(self.ratios(place).tolist())
        ratios = [
            np.array([next(spots) if len(curve) else 0.0 for curve in scene.curves])
            for scene in self.scenes
        ]
        return exceeded_by(ratios, self.scenes, EXCEEDING_SHARE / self.robust)

    def largest(self, new: float) -> int | None:
        """The last place at which the sum fits, with `new` for the new scene; None: no place."""

        def fits(place: int) -> bool:
            return (self._sum(place) + new) / (self.n + 1) <= 1

        positive = self.curves.levels[self.curves.levels > 0]
        ends = [positive.min(initial=1), LARGEST]
        with np.errstate(divide="ignore", over="ignore"):
            doublings = np.log2(self.shape.risk(ends) / self.alphas[[-1, 0]])
        # Scales beyond are left out, which only lowers s: a steep shape has no float64 for them.
        scales = doublings.clip(-_MAX_DOUBLINGS, _MAX_DOUBLINGS) * _PER_DOUBLING
        low, high = int(np.floor(scales.min())) - 1, int(np.ceil(scales.max())) + 1
        if not fits(low):
            return None
        while high - low > 1:  # it fits at `low`; beyond `high` nothing changes
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return low

    def _sum(self, place: int) -> float:
        ratios = self.ratios(place) * self.weights
        if self.robust == 1:
            return math.fsum(ratios)
        sums = np.bincount(self.places, ratios, minlength=len(self.scenes))
        cut = cut_share(self.robust) * self.of_scenes
        return math.fsum(cut + self.robust * np.maximum(sums - cut, 0))
