"""Which output sizes a calibration speaks about: the loss is a maximum over an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal, NamedTuple

from app.conformal import terms
from app.conformal.indecision import IndecisionSettings

Applicability = Literal["exact", "whole", "per_window", "unknown"]

COVERED: Final = 20
"""Scenes that a class or a size needs to speak for itself."""


class Speaking(NamedTuple):
    """How a calibration speaks about an output, and the sizes of the pairs that do."""

    how: Applicability
    sizes: frozenset[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many scenes have each (width, height); one of several sizes is shared between them."""

    scenes: Mapping[tuple[int, int], Fraction]

    @property
    def all(self) -> list[tuple[int, int]]:
        """The sizes (width, height), the most frequent first."""
        return sorted(self.scenes, key=lambda size: -self.scenes[size])

    def within(self, height: int, width: int) -> list[tuple[int, int]]:
        """Those that fit into an output of this size."""
        return [(w, h) for w, h in self.all if h <= height and w <= width]

    def speaking_about(self, height: int, width: int, sigma: IndecisionSettings) -> Speaking:
        """Which scenes speak about an output of this size, and how.

        - `exact`, `whole`: those at least as large in both directions calibrate alone, if they are
          half of all (`exact`) or `COVERED` (`whole`): their whole picture counts, so the whole
          output does.
        - `per_window`: else those that fit into the output speak about a window of their size
          placed at random.
        - `unknown`: a side is smaller than all; or the output is larger and none fits, or σ looks
          at the whole image, so that in a window it differs.
        """
        sizes = self.all
        if not sizes or height < min(h for _, h in sizes) or width < min(w for w, _ in sizes):
            return Speaking("unknown", frozenset(sizes))
        as_large = frozenset((w, h) for w, h in sizes if height <= h and width <= w)
        count = sum(self.scenes[size] for size in as_large)
        if as_large and 2 * count >= sum(self.scenes.values()):
            return Speaking("exact", as_large)
        if count >= COVERED:
            return Speaking("whole", as_large)
        fitting = self.within(height, width)
        reach = _reach(sigma)
        is_local = reach is not None and all(reach <= min(size) for size in fitting)
        if fitting and is_local:
            return Speaking("per_window", frozenset(fitting))
        return Speaking("unknown", frozenset(sizes))


def _reach(sigma: IndecisionSettings) -> int | None:
    """How many pixels σ of a pixel depends on, along a side; None: on the whole image."""
    if sigma.fit is not None:
        return terms.WIDEST
    return None if sigma.radius is None else 2 * sigma.radius + 1
