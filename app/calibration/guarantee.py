"""Which guarantee a calibration gives: chosen in advance, recorded in its manifest."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.conformal import HighProbabilityCurve, RiskCurve, Staircase, StepCurve, guarantees
from app.conformal import high_probability as hp
from app.conformal.curve import LARGEST

GuaranteeKind = Literal["expectation", "high_probability"]


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
