"""Step curves: the thresholds, masks and trust levels that follow from calibration scenes.

A *step curve* gives for a threshold t a value that bounds the expected loss of the mask {σ ≤ t}:
`RiskCurve` on average, `HighProbabilityCurve` with a stated probability. It rises only at the
breakpoints of the calibration images. With t_α = sup{t : value(t) ≤ α}, the trust mask is {p :
σ(p) < t_α}: strictly, since the value may jump above α at t_α. That is {p : value(σ(p)) ≤ α}, so
the *trust level* α(p) = value(σ(p)) holds the masks of all α at once.

**The end.** No threshold exceeds the largest σ of the calibration images: what was never seen is
not trusted. Smaller masks keep every promise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trustscale_server.conformal.code_table import CodeTable

CODE_STEPS: Final = 65534
"""Steps of the trust level in 16 bits; one value is left for `NEVER`."""

NEVER: Final = 65535
"""The code of what no α trusts."""

LARGEST = float(np.finfo(np.float32).max)
"""The largest σ, unless the images say otherwise."""

ROUNDING: Final = 1 + 1e-12
"""A factor that exceeds the errors of sums and quotients in floating point."""


@dataclass(frozen=True, eq=False)
class StepCurve:
    """A step function whose value is `risks[k]` from `thresholds[k]` up to the next one.

    NaN is a ValueError.

    n: number of scenes; of weighted ones the sum of their weights.
    bound: B, no loss exceeds it.
    min_alpha: the value below the first threshold; for smaller α the mask is empty.
    thresholds: float32, strictly increasing values of σ.
    risks: float64, strictly increasing, in (`min_alpha`, B].
    highest: the largest σ of the images; beyond it nothing is trusted.
    """

    n: float
    bound: float
    min_alpha: float
    thresholds: NDArray[np.float32]
    risks: NDArray[np.float64]
    highest: float = field(default=LARGEST, kw_only=True)

    def risk(self, t: float) -> float:
        """Return the value at t; t may be −inf or inf."""
        if math.isnan(t):
            raise ValueError("t is not a number")
        return float(self._values_at(np.float64(t)))

    def threshold(self, alpha: float) -> float:
        """t_α = sup{t : value(t) ≤ α}, at most just above `highest`; −inf for the empty mask."""
        if math.isnan(alpha):
            raise ValueError("alpha is not a number")
        if alpha < self.min_alpha:
            return -math.inf
        end = float(just_above(self.highest))
        index = int(np.searchsorted(self.risks, alpha, side="right"))
        return min(float(self.thresholds[index]), end) if index < len(self.risks) else end

    def at_least(self, other: StepCurve) -> StepCurve:
        """Return the larger of both curves everywhere: its masks are those that both trust.

        Raises:
            ValueError: the bounds differ.
        """
        if other.bound != self.bound:
            raise ValueError(f"the bounds {self.bound:g} and {other.bound:g} differ")
        levels = np.union1d(self.thresholds, other.thresholds)
        values = np.maximum(self._values_at(levels), other._values_at(levels))
        below = max(self.min_alpha, other.min_alpha)
        return StepCurve(
            min(self.n, other.n),
            self.bound,
            *rises(levels, np.append(below, values)),
            highest=min(self.highest, other.highest),
        )

    def mask(self, indecision: NDArray[np.float32], alpha: float) -> NDArray[np.bool_]:
        """Return the trust mask {σ < t_α}, bool of the shape of σ; True is trusted."""
        _raise_if_nan(indecision)
        return np.asarray(indecision < self.threshold(alpha))

    def trust_code(self, indecision: NDArray[np.float32]) -> NDArray[np.uint16]:
        """Return α(p) in 16 bits: ceil(α(p)/B · 65534), of the shape of σ; 65535 is never trusted.

        `code ≤ floor(α/B · 65534)`, computed in float64, never trusts a pixel outside the mask of
        α. It leaves out pixels whose α(p) is within B/65534 of α.
        """
        _raise_if_nan(indecision)
        codes = self._codes.take(indecision)
        codes[indecision > self.highest] = NEVER
        return codes

    def mask_of_code(self, code: NDArray[np.uint16], alpha: float) -> NDArray[np.bool_]:
        """Return the mask of α from `trust_code`, less pixels within B/65534 of α."""
        if math.isnan(alpha):
            raise ValueError("alpha is not a number")
        limit = math.floor(min(alpha / self.bound, 1.0) * CODE_STEPS)
        return np.asarray(code <= limit) if limit >= 0 else np.zeros(code.shape, bool)

    @property
    def _values(self) -> NDArray[np.float64]:
        """All values: below the first threshold, then from each of them on."""
        return np.append(self.min_alpha, self.risks)

    def _values_at(self, levels: NDArray[np.floating] | np.floating) -> NDArray[np.float64]:
        return np.asarray(self._values[np.searchsorted(self.thresholds, levels, side="right")])

    @cached_property
    def _codes(self) -> CodeTable:
        """The codes that occur, and where they begin."""
        # One more than the code of the largest α below the level: whole quotients may be rounded.
        # The last factor exceeds the error of both operations before it.
        below = np.nextafter(self._values, -np.inf) / self.bound * CODE_STEPS * (1 + 1e-15)
        codes = np.minimum(np.floor(below) + 1, CODE_STEPS).astype(np.uint16)
        changes = codes[1:] != codes[:-1]
        return CodeTable(self.thresholds[changes], codes[np.append(True, changes)])


def rises(
    levels: NDArray[np.float32], values: NDArray[np.float64]
) -> tuple[float, NDArray[np.float32], NDArray[np.float64]]:
    """Return `min_alpha`, `thresholds` and `risks` of a step curve: only where its value rises.

    levels: strictly increasing, [k]. values: never falling, [1 + k]: below the first level, then
    from each on.
    """
    is_rise = np.diff(values) > 0
    return float(values[0]), levels[is_rise], values[1:][is_rise]


def just_above(level: float) -> np.float32:
    """Return the least float32 above a level, which is rounded to a float32 first."""
    with np.errstate(over="ignore"):  # inf follows the largest
        return np.float32(np.nextafter(np.float32(level), np.float32(np.inf)))


def _raise_if_nan(indecision: NDArray[np.float32]) -> None:
    if indecision.size and np.isnan(indecision.min()):
        raise ValueError("σ contains NaN")
