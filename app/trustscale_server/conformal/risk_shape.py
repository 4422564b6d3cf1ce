"""The shape of a risk: how it grows with the threshold, up to a factor.

It is fixed before any calibration scene is seen, so it may come from nothing but images that
calibrate nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trustscale_server.conformal.loss_curve import LossCurve, LossCurves


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
    def from_loss_curves(cls, loss_curves: Iterable[LossCurve]) -> Shape | None:
        """Return the mean loss of images that calibrate nothing; None with too few breakpoints.

        It has up to 16 knots, from a hundredth of its largest risk on.
        """
        curves = LossCurves.from_curves(loss_curves)
        levels = np.unique(curves.levels)
        levels = levels[levels > 0]
        if not len(levels):
            return None
        mean = np.zeros(len(levels))
        for curve in curves:
            mean += np.multiply(curve.losses(levels), 1 / len(curves), dtype=np.float64)
        risks = np.geomspace(max(mean[0], mean[-1] / 100), mean[-1], 16)
        places = np.unique(np.searchsorted(mean, risks * (1 - 1e-9)))
        if len(places) < 2:
            return None
        return cls(tuple(levels[places].tolist()), tuple(mean[places].tolist()))

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
