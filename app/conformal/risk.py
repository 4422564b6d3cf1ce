"""The risk curve of n calibration images, and everything that is read off it.

R(t) = (Σ_i L_i(t) + B) / (n + 1) is the paper's Eq. 1, and t_α = sup{t : R(t) ≤ α} its threshold.
The trust mask is {p : σ(p) < t_α}. The comparison is strict: R may jump above α exactly at t_α, and
with equal values of σ across images the mask {σ ≤ t_α} of the paper's Eq. 2 then breaks the
promise (tests/conformal/test_guarantee.py measures by how much).

The mask has a second form that needs no threshold: {p : R(σ(p)) ≤ α}. The *trust level*
α(p) = R(σ(p)) therefore holds the masks of all α at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from app.conformal.fidelity import largest_float32
from app.conformal.staircase import Staircase, last_of_level

# Losses are added as integers in units of 2^-40, so that sums are exact and independent of the
# order of the images. Rounding up keeps the rare smaller remainder on the safe side.
_UNIT = 1 << 40
CODE_STEPS = 65534  # of the 16-bit trust level; one value is left for "never"
_CELLS = 1 << 16  # look-up cells over the range of σ; see `_RankTable`

Value = TypeVar("Value", np.float32, np.uint16)


@dataclass(frozen=True, eq=False)
class RiskCurve:
    """R(t) as its breakpoints: from `thresholds[k]` on, up to the next one, the risk is `risks[k]`.

    thresholds: float32, strictly increasing values of σ.
    risks: float64, strictly increasing, above `min_alpha`.
    n: number of images. bound: B, no loss exceeds it.
    """

    n: int
    bound: float
    thresholds: NDArray[np.float32]
    risks: NDArray[np.float64]

    @classmethod
    def from_staircases(cls, staircases: Iterable[Staircase], bound: float) -> RiskCurve:
        """The curve of a set of images; the order of the staircases does not matter.

        Raises:
            ValueError: the bound is not positive, or an error exceeds it.
        """
        if not (bound > 0 and math.isfinite(bound)):
            raise ValueError("the bound must be a positive number")
        limit = largest_float32(bound)
        levels, rises, count = [], [], 0
        for staircase in staircases:
            count += 1
            if len(staircase) and staircase.errors[-1] > limit:
                raise ValueError(
                    f"image {count}: the error {staircase.errors[-1]} exceeds the bound {bound}"
                )
            fixed = np.ceil(staircase.errors.astype(np.float64) * _UNIT).astype(np.int64)
            levels.append(staircase.levels)
            rises.append(np.diff(fixed, prepend=0))
        level = np.concatenate([*levels, np.empty(0, np.float32)]) + np.float32(0)
        rise = np.concatenate([*rises, np.empty(0, np.int64)])
        order = np.argsort(level, kind="stable")
        level = level[order]
        total = np.cumsum(rise[order])
        last = last_of_level(level)
        risks = (total[last] / _UNIT + bound) / (count + 1)
        return cls(count, float(bound), level[last], risks)

    @property
    def min_alpha(self) -> float:
        """B/(n + 1): below it nothing can be trusted, whatever the images."""
        return self.bound / (self.n + 1)

    def risk(self, t: float) -> float:
        """R(t); t may be −inf or inf.

        Raises:
            ValueError: t is NaN.
        """
        if math.isnan(t):
            raise ValueError("t is not a number")
        index = int(np.searchsorted(self.thresholds, t, side="right"))
        return float(self.risks[index - 1]) if index else self.min_alpha

    def threshold(self, alpha: float) -> float:
        """t_α = sup{t : R(t) ≤ α}: −inf when even the empty mask is too risky, inf for no limit.

        Raises:
            ValueError: alpha is NaN.
        """
        if math.isnan(alpha):
            raise ValueError("alpha is not a number")
        if alpha < self.min_alpha:
            return -math.inf
        index = int(np.searchsorted(self.risks, alpha, side="right"))
        return float(self.thresholds[index]) if index < len(self.risks) else math.inf

    def mask(self, indecision: NDArray[np.float32], alpha: float) -> NDArray[np.bool_]:
        """The trust mask {σ < t_α}, bool of the shape of σ; True is trusted.

        Raises:
            ValueError: σ contains NaN, or alpha is NaN.
        """
        _check_no_nan(indecision)
        return np.asarray(indecision < self.threshold(alpha))

    def trust_level(self, indecision: NDArray[np.float32]) -> NDArray[np.float32]:
        """α(p) = R(σ(p)), float32 of the shape of σ, in [B/(n+1), B].

        `trust_level(σ) ≤ α` is the mask of α. Values are rounded up to float32: the comparison, in
        any precision of α not below float32, never trusts a pixel outside the mask.

        Raises:
            ValueError: σ contains NaN.
        """
        _check_no_nan(indecision)
        levels = np.append(self.min_alpha, self.risks)
        rounded = levels.astype(np.float32)
        below = rounded < levels
        rounded[below] = np.nextafter(rounded[below], np.float32(np.inf))
        return self._rank_table.take(rounded, indecision)

    def trust_code(self, indecision: NDArray[np.float32]) -> NDArray[np.uint16]:
        """α(p) in 16 bits: ceil(α(p)/B · 65534), of the shape of σ; 65535 is never reached.

        `code ≤ floor(α/B · 65534)` never trusts a pixel outside the mask of α, and is exactly the
        mask for every α that is a multiple of B/65534.

        Raises:
            ValueError: σ contains NaN.
        """
        _check_no_nan(indecision)
        steps = np.append(self.min_alpha, self.risks) / self.bound * CODE_STEPS
        # Quotients that should be whole numbers may come out a rounding error above or below.
        whole = np.rint(steps)
        steps = np.where(np.abs(steps - whole) <= 1e-9, whole, np.ceil(steps))
        codes = np.minimum(steps, CODE_STEPS).astype(np.uint16)
        return self._rank_table.take(codes, indecision)

    @cached_property
    def _rank_table(self) -> _RankTable:
        return _RankTable(self.thresholds)


class _RankTable:
    """`searchsorted(thresholds, σ, side="right")` for whole images, ten times faster.

    The bits of a non-negative float32, read as an integer, are in the order of the numbers. The
    range of the thresholds is cut into equal cells of such integers. A pixel whose cell holds no
    threshold is answered by the table; the few others are searched for.
    """

    def __init__(self, thresholds: NDArray[np.float32]) -> None:
        self.thresholds = thresholds
        self.usable = bool(len(thresholds) and thresholds[0] >= 0)
        if not self.usable:
            return
        keys = thresholds.view(np.int32)
        self.low = int(keys[0])
        span = int(keys[-1]) - self.low + 1
        self.shift = max(0, (span - 1).bit_length() - _CELLS.bit_length() + 1)
        starts = self.low + (np.arange((span >> self.shift) + 2, dtype=np.int64) << self.shift)
        first = np.searchsorted(keys, starts, side="left")
        # Cell 0 is everything below the first threshold, the last cell everything from the last on.
        self.ranks = np.concatenate([[0], first[:-1], [len(keys)]]).astype(np.int32)
        self.split = np.concatenate([[False], np.diff(first) > 0, [False]])

    def take(self, values: NDArray[Value], indecision: NDArray[np.float32]) -> NDArray[Value]:
        """values[rank of σ among the thresholds], for σ of any shape."""
        sigma = np.ascontiguousarray(indecision, np.float32).reshape(-1)
        out = np.empty(sigma.shape, values.dtype)
        usable = self.usable and sigma.size > 0 and sigma.min() >= 0
        for start in range(0, len(sigma), _CELLS):
            block = slice(start, start + _CELLS)
            out[block] = values.take(self._ranks(sigma[block], usable))
        return out.reshape(indecision.shape)

    def _ranks(self, sigma: NDArray[np.float32], usable: bool) -> NDArray[np.intp]:
        if not usable:
            return np.searchsorted(self.thresholds, sigma, side="right")
        key = (sigma + np.float32(0)).view(np.int32) - np.int32(self.low)  # −0 becomes 0
        cell = (key >> self.shift) + 1
        np.clip(cell, 0, len(self.ranks) - 1, out=cell)
        rank = self.ranks.take(cell).astype(np.intp)
        split = np.flatnonzero(self.split.take(cell))
        rank[split] = np.searchsorted(self.thresholds, sigma[split], side="right")
        return rank


def _check_no_nan(indecision: NDArray[np.float32]) -> None:
    if indecision.size and np.isnan(indecision.min()):
        raise ValueError("σ contains NaN")
