"""A bound on the risk as a step function of the threshold, and everything that is read off it.

A *step curve* gives, for the threshold t, a value that bounds the expected loss of the mask
{σ ≤ t} in some sense: `RiskCurve` on average, `HighProbabilityCurve` with a stated probability.
Both rise only at the breakpoints of the calibration images. The threshold of α is
t_α = sup{t : value(t) ≤ α}, and the trust mask is {p : σ(p) < t_α}. The comparison is strict: the
value may jump above α exactly at t_α.

The mask has a second form that needs no threshold: {p : value(σ(p)) ≤ α}. The *trust level*
α(p) = value(σ(p)) therefore holds the masks of all α at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.conformal.fidelity import largest_float32
from app.conformal.staircase import Staircase, last_of_level

# Losses are added as integers in units of 2^-40, so that sums are exact and independent of the
# order of the images. Rounding up keeps the rare smaller remainder on the safe side.
UNIT = 1 << 40
CODE_STEPS = 65534  # of the 16-bit trust level; one value is left for "never"

# Look-up cells over the range of σ, see `_RankTable`: so many per threshold, within these bounds.
_CELLS_PER_THRESHOLD = 128
_FEWEST_CELLS, _MOST_CELLS = 1 << 16, 1 << 19
_BLOCK = 1 << 16  # pixels that are looked up at once: their temporaries stay in the cache

Value = TypeVar("Value", np.float32, np.uint16)


@dataclass(frozen=True, eq=False)
class StepCurve:
    """From `thresholds[k]` on, up to the next one, the value is `risks[k]`.

    n: number of images. bound: B, no loss exceeds it.
    min_alpha: the value below the first threshold; below it nothing can be trusted.
    thresholds: float32, strictly increasing values of σ.
    risks: float64, strictly increasing, above `min_alpha`, at most B.
    """

    n: int
    bound: float
    min_alpha: float
    thresholds: NDArray[np.float32]
    risks: NDArray[np.float64]

    def risk(self, t: float) -> float:
        """The value at t; t may be −inf or inf.

        Raises:
            ValueError: t is NaN.
        """
        if math.isnan(t):
            raise ValueError("t is not a number")
        index = int(np.searchsorted(self.thresholds, t, side="right"))
        return float(self.risks[index - 1]) if index else self.min_alpha

    def threshold(self, alpha: float) -> float:
        """t_α = sup{t : value(t) ≤ α}: −inf when not even the empty mask passes, inf for no limit.

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
        """α(p), the value at σ(p), float32 of the shape of σ, in [min_alpha, B].

        `trust_level(σ) ≤ α` is the mask of α. Values are rounded up to float32: the comparison, in
        any precision of α not below float32, never trusts a pixel outside the mask.

        Raises:
            ValueError: σ contains NaN.
        """
        _check_no_nan(indecision)
        levels = np.append(self.min_alpha, self.risks)
        rounded = levels.astype(np.float32)
        # An α just below a level may itself be rounded up when it is compared: stay above that.
        below = (rounded < levels) | (np.nextafter(levels, -np.inf).astype(np.float32) >= rounded)
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
        table, codes = self._codes
        return table.take(codes, indecision)

    @cached_property
    def _codes(self) -> tuple[_RankTable, NDArray[np.uint16]]:
        """The codes that occur, and the thresholds from which on they do.

        Most steps of a curve are finer than a code, so these are far fewer than its thresholds.
        """
        steps = np.append(self.min_alpha, self.risks) / self.bound * CODE_STEPS
        # Quotients that should be whole numbers may come out a rounding error above or below.
        whole = np.rint(steps)
        steps = np.where(np.abs(steps - whole) <= 1e-9, whole, np.ceil(steps))
        codes = np.minimum(steps, CODE_STEPS).astype(np.uint16)
        changes = codes[1:] != codes[:-1]
        return _RankTable(self.thresholds[changes]), codes[np.append(True, changes)]

    @cached_property
    def _rank_table(self) -> _RankTable:
        return _RankTable(self.thresholds)


class TotalLoss(NamedTuple):
    """Σ_i L_i as a step function: from `levels[k]` on the n losses sum to `totals[k]` · 2^-40."""

    n: int
    levels: NDArray[np.float32]  # strictly increasing
    totals: NDArray[np.int64]  # strictly increasing, above 0


def total_loss(staircases: Iterable[Staircase], bound: float) -> TotalLoss:
    """The sum of the losses of a set of images; the order of the staircases does not matter.

    Raises:
        ValueError: the bound is not positive, or an error exceeds it.
    """
    levels, rises, count = [], [], 0
    for staircase in checked(staircases, bound):
        count += 1
        fixed = np.ceil(staircase.errors.astype(np.float64) * UNIT).astype(np.int64)
        levels.append(staircase.levels)
        rises.append(np.diff(fixed, prepend=0))
    level = np.concatenate([*levels, np.empty(0, np.float32)]) + np.float32(0)
    rise = np.concatenate([*rises, np.empty(0, np.int64)])
    order = np.argsort(level, kind="stable")
    level = level[order]
    total = np.cumsum(rise[order])
    last = last_of_level(level)
    level, total = level[last], total[last]
    rises_there = np.diff(total, prepend=0) > 0  # errors below one unit may not rise
    return TotalLoss(count, level[rises_there], total[rises_there])


def checked(staircases: Iterable[Staircase], bound: float) -> Iterable[Staircase]:
    """The same staircases, each held to the bound: a declared B is enforced, never believed.

    Raises:
        ValueError: the bound is not positive, or an error exceeds it.
    """
    if not (bound > 0 and math.isfinite(bound)):
        raise ValueError("the bound must be a positive number")
    limit = largest_float32(bound)
    for count, staircase in enumerate(staircases, start=1):
        if len(staircase) and staircase.errors[-1] > limit:
            raise ValueError(
                f"image {count}: the error {staircase.errors[-1]} exceeds the bound {bound}"
            )
        yield staircase


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
        low, high = int(keys[0]), int(keys[-1])
        span = high - low + 1
        wanted = _CELLS_PER_THRESHOLD * len(thresholds)
        cells = min(max(wanted, _FEWEST_CELLS), _MOST_CELLS)
        self.shift = max(0, (span - 1).bit_length() - cells.bit_length() + 1)
        # Cell 0 is everything below the first threshold's cell, the last one everything above.
        self.offset = (low >> self.shift) - 1
        count = (high >> self.shift) - (low >> self.shift) + 1
        starts = (np.arange(count + 1, dtype=np.int64) + self.offset + 1) << self.shift
        first = np.searchsorted(keys, starts, side="left")
        self.ranks = np.concatenate([[0], first[:-1], [len(keys)]]).astype(np.int32)
        self.split = np.concatenate([[False], np.diff(first) > 0, [False]])

    def take(self, values: NDArray[Value], indecision: NDArray[np.float32]) -> NDArray[Value]:
        """values[rank of σ among the thresholds], for σ of any shape."""
        sigma = np.ascontiguousarray(indecision, np.float32).reshape(-1)
        if not (self.usable and sigma.size and sigma.min() >= 0):
            ranks = np.searchsorted(self.thresholds, sigma, side="right")
            return values.take(ranks).reshape(indecision.shape)
        out = np.empty(sigma.shape, values.dtype)
        of_cells = values.take(self.ranks)
        for start in range(0, len(sigma), _BLOCK):
            block = slice(start, start + _BLOCK)
            out[block] = self._take(values, of_cells, sigma[block])
        return out.reshape(indecision.shape)

    def _take(
        self, values: NDArray[Value], of_cells: NDArray[Value], sigma: NDArray[np.float32]
    ) -> NDArray[Value]:
        cell = (sigma + np.float32(0)).view(np.int32)  # −0 becomes 0
        cell >>= self.shift
        cell -= np.int32(self.offset)
        out = of_cells.take(cell, mode="clip")
        split = np.flatnonzero(self.split.take(cell, mode="clip"))
        ranks = np.searchsorted(self.thresholds, sigma[split], side="right")
        out[split] = values.take(ranks)
        return out


def _check_no_nan(indecision: NDArray[np.float32]) -> None:
    if indecision.size and np.isnan(indecision.min()):
        raise ValueError("σ contains NaN")
