"""A bound on the risk as a step function of the threshold, and everything that is read off it.

A *step curve* gives, for the threshold t, a value that bounds the expected loss of the mask
{σ ≤ t} in some sense: `RiskCurve` on average, `HighProbabilityCurve` with a stated probability.
Both rise only at the breakpoints of the calibration images. The threshold of α is
t_α = sup{t : value(t) ≤ α}, and the trust mask is {p : σ(p) < t_α}. The comparison is strict: the
value may jump above α exactly at t_α.

The mask has a second form that needs no threshold: {p : value(σ(p)) ≤ α}. The *trust level*
α(p) = value(σ(p)) therefore holds the masks of all α at once.

**Scenes.** Crops of one photograph, frames of one camera run or slices of one patient are alike,
and not exchangeable with those of a new one. So the loss of a *scene* is the mean of the losses of
its n_i crops, L̄_i(t) = (1/n_i) Σ_j L_ij(t), and n is the number of scenes. Where no scenes are
named every image is its own. The number of crops must belong to the draw of the scene.

**The end.** No threshold lies beyond the largest σ of the calibration images: what nobody has seen
is not trusted, whatever α. That only makes masks smaller, so it costs no promise.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
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
NEVER = 65535

LARGEST = float(np.finfo(np.float32).max)
"""Where σ ends if nothing else is said."""

# Above the error of dividing by B and multiplying by 65534.
_SAFE = 1 + 1e-15

# Look-up cells over the range of σ, see `_RankTable`: so many per threshold, within these bounds.
_CELLS_PER_THRESHOLD = 128
_FEWEST_CELLS, _MOST_CELLS = 1 << 16, 1 << 19
_BLOCK = 1 << 16  # pixels that are looked up at once: their temporaries stay in the cache

Value = TypeVar("Value", np.float32, np.uint16)


@dataclass(frozen=True, eq=False)
class StepCurve:
    """From `thresholds[k]` on, up to the next one, the value is `risks[k]`.

    n: number of scenes. bound: B, no loss exceeds it.
    min_alpha: the value below the first threshold; below it nothing can be trusted.
    thresholds: float32, strictly increasing values of σ.
    risks: float64, strictly increasing, above `min_alpha`, at most B.
    highest: the largest σ of the images; beyond it nothing is trusted.
    """

    n: int
    bound: float
    min_alpha: float
    thresholds: NDArray[np.float32]
    risks: NDArray[np.float64]
    highest: float = field(default=LARGEST, kw_only=True)

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
        """t_α = sup{t : value(t) ≤ α}, at most just above `highest`; −inf for the empty mask.

        Raises:
            ValueError: alpha is NaN.
        """
        if math.isnan(alpha):
            raise ValueError("alpha is not a number")
        if alpha < self.min_alpha:
            return -math.inf
        index = int(np.searchsorted(self.risks, alpha, side="right"))
        return float(self.thresholds[index]) if index < len(self.risks) else self._end

    @cached_property
    def _end(self) -> float:
        """The least float32 above `highest`; inf above the largest one."""
        with np.errstate(over="ignore"):
            return float(np.nextafter(np.float32(self.highest), np.float32(np.inf)))

    def mask(self, indecision: NDArray[np.float32], alpha: float) -> NDArray[np.bool_]:
        """The trust mask {σ < t_α}, bool of the shape of σ; True is trusted.

        Raises:
            ValueError: σ contains NaN, or alpha is NaN.
        """
        _check_no_nan(indecision)
        return np.asarray(indecision < self.threshold(alpha))

    def trust_level(self, indecision: NDArray[np.float32]) -> NDArray[np.float32]:
        """α(p), the value at σ(p), float32 of the shape of σ: in [min_alpha, B], inf for never.

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
        found = self._rank_table.take(rounded, indecision)
        found[indecision > self.highest] = np.inf
        return found

    def trust_code(self, indecision: NDArray[np.float32]) -> NDArray[np.uint16]:
        """α(p) in 16 bits: ceil(α(p)/B · 65534), of the shape of σ; 65535 is never trusted.

        `code ≤ floor(α/B · 65534)`, computed in float64, never trusts a pixel outside the mask of
        α; it leaves out pixels whose α(p) lies within B/65534 of α.

        Raises:
            ValueError: σ contains NaN.
        """
        _check_no_nan(indecision)
        table, codes = self._codes
        found = table.take(codes, indecision)
        found[indecision > self.highest] = NEVER
        return found

    @cached_property
    def _codes(self) -> tuple[_RankTable, NDArray[np.uint16]]:
        """The codes that occur, and the thresholds from which on they do.

        Most steps of a curve are finer than a code, so these are far fewer than its thresholds.
        """
        levels = np.append(self.min_alpha, self.risks)
        # One more than the code of the largest α below the level: a quotient that should be a whole
        # number may come out a rounding error above or below.
        below = np.nextafter(levels, -np.inf) / self.bound * CODE_STEPS * _SAFE
        codes = np.minimum(np.floor(below) + 1, CODE_STEPS).astype(np.uint16)
        changes = codes[1:] != codes[:-1]
        return _RankTable(self.thresholds[changes]), codes[np.append(True, changes)]

    @cached_property
    def _rank_table(self) -> _RankTable:
        return _RankTable(self.thresholds)


class Loss(NamedTuple):
    """A loss, or a sum of losses, as a step function: `totals[k]` · 2^-40 from `levels[k]` on."""

    levels: NDArray[np.float32]  # strictly increasing
    totals: NDArray[np.int64]  # strictly increasing, above 0


class TotalLoss(NamedTuple):
    """Σ_i L̄_i of n scenes, as in `Loss`."""

    n: int
    levels: NDArray[np.float32]
    totals: NDArray[np.int64]


def by_scene(
    images: Iterable[Staircase], scenes: Iterable[Hashable] | None
) -> list[list[Staircase]]:
    """The staircases of each scene, in the order in which the scenes are first met.

    Args:
        images: the staircases.
        scenes: the scene of each; None: every image is its own.

    Raises:
        ValueError: not as many scenes as images.
    """
    if scenes is None:
        return [[image] for image in images]
    found: dict[Hashable, list[Staircase]] = {}
    for image, scene in zip(images, scenes, strict=True):
        found.setdefault(scene, []).append(image)
    return list(found.values())


def mean_loss(crops: Sequence[Staircase]) -> Loss:
    """L̄ of one scene; rounded up to whole units, whatever the order of its crops."""
    fixed = [np.ceil(crop.errors.astype(np.float64) * UNIT).astype(np.int64) for crop in crops]
    if len(crops) == 1:
        return _summed([Loss(crops[0].levels, fixed[0])])
    total = _summed([Loss(crop.levels, errors) for crop, errors in zip(crops, fixed, strict=True)])
    return Loss(total.levels, -(-total.totals // len(crops)))


def total_loss(
    staircases: Iterable[Staircase], bound: float, scenes: Iterable[Hashable] | None = None
) -> TotalLoss:
    """The sum of the losses of the scenes; the order of the staircases does not matter.

    Raises:
        ValueError: the bound is not positive, an error exceeds it, or not as many scenes as images.
    """
    means = [mean_loss(crops) for crops in by_scene(checked(staircases, bound), scenes)]
    return TotalLoss(len(means), *_summed(means))


def _summed(losses: Sequence[Loss]) -> Loss:
    level = np.concatenate([*(loss.levels for loss in losses), np.empty(0, np.float32)])
    level += np.float32(0)  # −0 and 0 are one level
    rise = np.concatenate(
        [*(np.diff(loss.totals, prepend=0) for loss in losses), np.empty(0, np.int64)]
    )
    order = np.argsort(level, kind="stable")
    level = level[order]
    total = np.cumsum(rise[order])
    last = last_of_level(level)
    level, total = level[last], total[last]
    rises_there = np.diff(total, prepend=0) > 0  # errors below one unit may not rise
    return Loss(level[rises_there], total[rises_there])


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
