"""Which guarantee a calibration gives, chosen in advance, and about outputs of which sizes."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.conformal import HighProbabilityCurve, RiskCurve, Staircase, StepCurve, guarantees, texture
from app.conformal import high_probability as hp
from app.conformal.curve import LARGEST
from app.conformal.indecision import IndecisionSettings

GuaranteeKind = Literal["expectation", "high_probability"]
Applicability = Literal["exact", "per_window", "unknown"]


def rounded_up(alpha: float) -> float:
    """A positive number to two digits, never smaller."""
    step = 10.0 ** (math.floor(math.log10(alpha)) - 1)
    return float(f"{math.ceil(alpha / step) * step:.6g}")


class GuaranteeSettings(BaseModel):
    """On average over calibrations, or with probability 1 − δ for the one at hand.

    δ and the method count for `high_probability` only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: GuaranteeKind = "expectation"
    delta: float = Field(0.1, gt=0, lt=1)
    method: hp.Method = "hoeffding_bentkus"

    def curve(
        self,
        staircases: Iterable[Staircase],
        bound: float,
        *,
        scenes: Iterable[Hashable] | None = None,
        highest: float = LARGEST,
    ) -> StepCurve:
        """The curve of these images; for `wsr` the order of scenes must not depend on their losses.

        Raises:
            ValueError: an error exceeds the bound.
        """
        if self.kind == "expectation":
            return RiskCurve.from_staircases(staircases, bound, scenes=scenes, highest=highest)
        return HighProbabilityCurve.from_staircases(
            staircases,
            bound,
            delta=self.delta,
            method=self.method,
            scenes=scenes,
            highest=highest,
        )

    def minimal_n(self, alpha: float, bound: float) -> int:
        """The number of scenes below which no pixel can be trusted at α, whatever their losses."""
        if self.kind == "expectation":
            return guarantees.minimal_n(alpha, bound)
        return hp.minimal_n(alpha, bound, self.delta, self.method)

    def shortfall(self, alpha: float, bound: float, n: int, least: float) -> str | None:
        """Why n scenes trust nothing at α, and what would help; None if they can trust something.

        least: the smallest α that they can hold.
        """
        if alpha >= least:
            return None
        more = max(1, self.minimal_n(alpha, bound) - n) if alpha > 0 else None
        words = f"α = {alpha:g} lies below {least:.4g}, the least that {n} scenes can hold"
        or_add = "" if more is None else f", or add at least {more} more"
        return f"{words}: use {rounded_up(least):g} or more{or_add}"

    def leakage_bound(self, alpha: float, n: int, n_leaked: int, bound: float) -> float | None:
        """What is left of α when a model was trained on some of the scenes; None: not known.

        Raises:
            ValueError: n_leaked outside [0, n].
        """
        if self.kind == "expectation":
            return guarantees.leakage_bound(alpha, n, n_leaked, bound)
        if self.method == "wsr":
            return None
        return hp.leakage_bound(alpha, n, n_leaked, bound, self.delta)

    def facts(self) -> dict[str, Any]:
        """As JSON values; δ and the method are null where they have no meaning."""
        counts = self.kind == "high_probability"
        return {
            "kind": self.kind,
            "delta": self.delta if counts else None,
            "method": self.method if counts else None,
        }


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
