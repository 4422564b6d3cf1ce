"""What calibration scenes say of a new picture: threshold, mask, typicality.

A *step curve* gives for a threshold t a value that bounds the expected loss of the mask {σ ≤ t}:
`RiskCurve` on average, `HighProbabilityCurve` with a stated probability. It rises only at the
breakpoints of the calibration images. With t_α = sup{t : value(t) ≤ α}, the trust mask is
{p : σ(p) < t_α}: strictly, since the value may jump above α at t_α. That is {p : value(σ(p)) ≤ α},
so the *trust level* α(p) = value(σ(p)) holds the masks of all α at once.

**Scenes.** Crops of one photograph, frames of one camera run or slices of one patient are alike,
and not exchangeable with those of a new one. So a *scene* loses the mean over its n_i crops,
L̄_i(t) = (1/n_i) Σ_j L_ij(t), and n counts scenes. The number of crops must belong to the draw of
the scene. By default every image is a scene.

**The end.** No threshold exceeds the largest σ of the calibration images: what was never seen is
not trusted. Smaller masks keep every promise.

**Typicality.** `p_value` is exact for a picture that is exchangeable with one picture of each
calibration scene, since ranks among all n + 1 are symmetric in them. (Crops of one scene are
alike: only one may count.) Each picture is a point, one coordinate per fact. Its
strangeness is its Mahalanobis distance from the mean of all points, **including the new one**. So
P(p ≤ u) ≤ u for every u, whatever the law and the number of scenes.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trustscale_server.conformal.fidelity import largest_float32
from trustscale_server.conformal.loss_curve import LossCurve, last_of_level

# Losses are summed as integers in units of 2^-40, rounded up: exactly, in any order of the images.
UNIT = 1 << 40
CODE_STEPS = 65534  # of the 16-bit trust level; one value is left for "never"
NEVER = 65535

LARGEST = float(np.finfo(np.float32).max)
"""Where σ ends by default."""

# Above the error of dividing by B and multiplying by 65534.
_SAFE = 1 + 1e-15

# Look-up cells of `_CodeTable`.
_CELLS_PER_THRESHOLD = 128
_FEWEST_CELLS, _MOST_CELLS = 1 << 16, 1 << 19
_FEW = 16  # thresholds in a cell that are compared one by one
_BLOCK = 1 << 16  # pixels at once: temporaries stay in the cache


@dataclass(frozen=True, eq=False)
class StepCurve:
    """From `thresholds[k]` on, up to the next one, the value is `risks[k]`. NaN is a ValueError.

    n: number of scenes.
    bound: B, no loss exceeds it.
    min_alpha: the value below the first threshold; for smaller α the mask is empty.
    thresholds: float32, strictly increasing values of σ.
    risks: float64, strictly increasing, in (`min_alpha`, B].
    highest: the largest σ of the images; beyond it nothing is trusted.
    """

    n: int
    bound: float
    min_alpha: float
    thresholds: NDArray[np.float32]
    risks: NDArray[np.float64]
    highest: float = field(default=LARGEST, kw_only=True)

    def risk(self, t: float) -> float:
        """The value at t; t may be −inf or inf."""
        if math.isnan(t):
            raise ValueError("t is not a number")
        index = int(np.searchsorted(self.thresholds, t, side="right"))
        return float(self.risks[index - 1]) if index else self.min_alpha

    def threshold(self, alpha: float) -> float:
        """t_α = sup{t : value(t) ≤ α}, at most just above `highest`; −inf for the empty mask."""
        if math.isnan(alpha):
            raise ValueError("alpha is not a number")
        if alpha < self.min_alpha:
            return -math.inf
        index = int(np.searchsorted(self.risks, alpha, side="right"))
        if index < len(self.risks):
            return float(self.thresholds[index])
        with np.errstate(over="ignore"):  # inf follows the largest float32
            return float(np.nextafter(np.float32(self.highest), np.float32(np.inf)))

    def mask(self, indecision: NDArray[np.float32], alpha: float) -> NDArray[np.bool_]:
        """The trust mask {σ < t_α}, bool of the shape of σ; True is trusted."""
        _check_no_nan(indecision)
        return np.asarray(indecision < self.threshold(alpha))

    def trust_code(self, indecision: NDArray[np.float32]) -> NDArray[np.uint16]:
        """α(p) in 16 bits: ceil(α(p)/B · 65534), of the shape of σ; 65535 is never trusted.

        `code ≤ floor(α/B · 65534)`, computed in float64, never trusts a pixel outside the mask of
        α. It leaves out pixels whose α(p) is within B/65534 of α.
        """
        _check_no_nan(indecision)
        found = self._codes.take(indecision)
        found[indecision > self.highest] = NEVER
        return found

    def mask_of_code(self, code: NDArray[np.uint16], alpha: float) -> NDArray[np.bool_]:
        """The mask of α from `trust_code`: inside `mask`, without pixels within B/65534 of α."""
        if math.isnan(alpha):
            raise ValueError("alpha is not a number")
        limit = math.floor(min(alpha / self.bound, 1.0) * CODE_STEPS)
        return np.asarray(code <= limit) if limit >= 0 else np.zeros(code.shape, bool)

    @cached_property
    def _codes(self) -> _CodeTable:
        """The codes that occur, and where they begin."""
        levels = np.append(self.min_alpha, self.risks)
        # One more than the code of the largest α below the level: whole quotients may be rounded.
        below = np.nextafter(levels, -np.inf) / self.bound * CODE_STEPS * _SAFE
        codes = np.minimum(np.floor(below) + 1, CODE_STEPS).astype(np.uint16)
        changes = codes[1:] != codes[:-1]
        return _CodeTable(self.thresholds[changes], codes[np.append(True, changes)])


class Loss(NamedTuple):
    """A loss, or a sum of losses, as a step function: `totals[k]` · 2^-40 from `levels[k]` on."""

    levels: NDArray[np.float32]  # strictly increasing
    totals: NDArray[np.int64]  # strictly increasing, above 0


def places_of(scenes: Iterable[Hashable]) -> list[list[int]]:
    """The places of the images of each scene; scenes in the order in which they first occur."""
    found: dict[Hashable, list[int]] = {}
    for place, scene in enumerate(scenes):
        found.setdefault(scene, []).append(place)
    return list(found.values())


def by_scene(
    loss_curves: Iterable[LossCurve], bound: float, scenes: Iterable[Hashable] | None
) -> list[list[LossCurve]]:
    """The loss curves of each scene; without names every image is a scene.

    Raises:
        ValueError: the bound is not positive, an error exceeds it, or not as many scenes as images.
    """
    if not (bound > 0 and math.isfinite(bound)):
        raise ValueError("the bound must be a positive number")
    images, limit = list(loss_curves), largest_float32(bound)
    for count, image in enumerate(images, start=1):
        if len(image) and image.errors[-1] > limit:
            raise ValueError(
                f"image {count}: the error {image.errors[-1]} exceeds the bound {bound}"
            )
    names = range(len(images)) if scenes is None else list(scenes)
    if len(names) != len(images):
        raise ValueError(f"{len(names)} scenes of {len(images)} images")
    return [[images[place] for place in places] for places in places_of(names)]


def mean_loss(crops: Sequence[LossCurve]) -> Loss:
    """L̄ of one scene, rounded up to whole units, in any order of its crops."""
    total = summed(
        [
            Loss(crop.levels, np.ceil(crop.errors.astype(np.float64) * UNIT).astype(np.int64))
            for crop in crops
        ]
    )
    return Loss(total.levels, -(-total.totals // len(crops)))


def summed(losses: Sequence[Loss]) -> Loss:
    """The sum of losses, in any order."""
    level = np.concatenate([*(loss.levels for loss in losses), np.empty(0, np.float32)])
    level += np.float32(0)  # −0 and 0 are one level
    rise = np.concatenate([*(_rises(loss.totals) for loss in losses), np.empty(0, np.int64)])
    order = np.argsort(level)  # not stable: of equal levels only the sum is kept
    level = level[order]
    total = np.cumsum(rise[order])
    last = last_of_level(level)
    level, total = level[last], total[last]
    rises_there = _rises(total) > 0  # errors below one unit may not rise
    return Loss(level[rises_there], total[rises_there])


def _rises(totals: NDArray[np.int64]) -> NDArray[np.int64]:
    """By how much each exceeds the one before; quicker than `np.diff`."""
    rises = totals.copy()
    rises[1:] -= totals[:-1]
    return rises


class _CodeTable:
    """`codes[searchsorted(thresholds, σ, side="right")]` for whole images, ten times faster.

    The bits of a non-negative float32, read as an integer, are in the order of the numbers, whose
    range is cut into equal cells: the table answers for cells without a threshold, and only the few
    other pixels are searched for.
    """

    def __init__(self, thresholds: NDArray[np.float32], codes: NDArray[np.uint16]) -> None:
        self.thresholds, self.codes = thresholds, codes
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
        inside = np.diff(first)
        self.most = int(inside.max())
        below = np.concatenate([[0], first[:-1], [len(keys)]])
        self.of_cells = codes.take(below).astype(np.int32)
        # Cells with thresholds: how many are below.
        split = 1 + np.flatnonzero(inside)
        self.of_cells[split] = ~below[split]

    def take(self, indecision: NDArray[np.float32]) -> NDArray[np.uint16]:
        sigma = np.ascontiguousarray(indecision, np.float32).reshape(-1)
        if not (self.usable and sigma.size and sigma.min() >= 0):
            return self._searched(sigma).reshape(indecision.shape)
        out = np.empty(sigma.shape, np.uint16)
        for start in range(0, len(sigma), _BLOCK):
            block = sigma[start : start + _BLOCK]
            cell = (block + np.float32(0)).view(np.int32)  # −0 becomes 0
            cell >>= self.shift
            cell -= np.int32(self.offset)
            found = self.of_cells.take(cell, mode="clip")
            split = np.flatnonzero(found < 0)
            found[split] = self._searched(block[split], ~found[split])
            out[start : start + _BLOCK] = found
        return out.reshape(indecision.shape)

    def _searched(
        self, sigma: NDArray[np.float32], place: NDArray[np.int32] | None = None
    ) -> NDArray[np.uint16]:
        """The codes by the thresholds; `place`: how many of them are below the cell of each σ."""
        if place is None or self.most > _FEW:
            return self.codes.take(np.searchsorted(self.thresholds, sigma, side="right"))
        for _ in range(self.most):
            place += sigma >= self.thresholds.take(place, mode="clip")
        return self.codes.take(np.minimum(place, len(self.thresholds)))


def _check_no_nan(indecision: NDArray[np.float32]) -> None:
    if indecision.size and np.isnan(indecision.min()):
        raise ValueError("σ contains NaN")


_RIDGE = 1e-9  # of the variance: facts that never vary, or that repeat each other


def p_value(known: NDArray[np.float64], new: NDArray[np.float64]) -> float:
    """The conformal p-value, in [1/(n + 1), 1], of a point [f] among [n, f] of a scene each."""
    points = np.vstack([known, new])
    spread = points.std(axis=0)
    points = (points - points.mean(axis=0)) / np.where(spread > 0, spread, 1)
    # The variance that a far point brings itself cannot hide it: only ranks are used.
    covariance = points.T @ points / len(points) + _RIDGE * np.eye(points.shape[1])
    strange = np.einsum("nf,fg,ng->n", points, np.linalg.inv(covariance), points)
    return float(np.mean(strange >= strange[-1]))  # it is as strange as itself
