"""Outputs of which sizes a calibration speaks about: the loss is a maximum over an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from app.conformal import texture
from app.conformal.indecision import IndecisionSettings

Applicability = Literal["exact", "per_window", "unknown"]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many scenes are of each (width, height): the loss is a maximum over an image.

    A scene whose pairs are of several sizes is shared between them.
    """

    scenes: Mapping[tuple[int, int], Fraction]

    @property
    def all(self) -> list[tuple[int, int]]:
        """The sizes (width, height), the most frequent first."""
        return sorted(self.scenes, key=lambda size: -self.scenes[size])

    def within(self, height: int, width: int) -> list[tuple[int, int]]:
        """Those that fit into an output of this size."""
        return [(w, h) for w, h in self.all if h <= height and w <= width]

    def applicability(self, height: int, width: int, sigma: IndecisionSettings) -> Applicability:
        """Whether the guarantee speaks about an output of this size.

        `exact` if at least half of the scenes are as large in both directions, `per_window` for
        larger outputs (the bound then holds, approximately, for a window of a calibrated size that
        is placed at random), `unknown` when a side is smaller than all, and for larger outputs if
        none of the pairs fits into them, or if σ looks at the whole image: in a window it is then
        not what it would be in an image of that size.
        """
        sizes = self.all
        if not sizes or height < min(h for _, h in sizes) or width < min(w for w, _ in sizes):
            return "unknown"
        as_large = sum(n for (w, h), n in self.scenes.items() if height <= h and width <= w)
        if 2 * as_large >= sum(self.scenes.values()):
            return "exact"
        fitting = self.within(height, width)
        reach = _reach(sigma)
        is_local = reach is not None and all(reach <= min(size) for size in fitting)
        return "per_window" if fitting and is_local else "unknown"


def _reach(sigma: IndecisionSettings) -> int | None:
    """How many pixels σ of a pixel depends on, along a side; None: on all of the image.

    The terms of a fitted σ look at cells of fixed size: a larger image has more of them.
    """
    if sigma.fit is not None:
        return texture.WIDEST
    return None if sigma.radius is None else 2 * sigma.radius + 1
