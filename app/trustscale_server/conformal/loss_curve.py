"""One image's loss as a function of the threshold, reduced to its breakpoints: exact, and tiny.

The loss L(t) = max{D(p) : σ(p) ≤ t} is a step function: sorted by σ, it rises only where D exceeds
everything before it, a few to a few thousand times in millions of pixels. The risk curve depends
on each image through these breakpoints only.

To avoid sorting the image, the loss curve of every 64th pixel is made first. Another pixel is
dropped unless its D exceeds that curve at its σ: one of the 64th then has equal or smaller σ and
equal or larger D, so nothing is lost. Only the survivors and the breakpoints of the first curve are
sorted.

Loss curves are kept `coarse`: levels rounded down and errors up to eight significant bits, so that
no loss is understated. At the levels that are left nothing is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trustscale_server.pixels.filters import largest_float32

_STRIDE = 64  # subsample: its sort costs less than one pass over the image

_LOWER: Final = np.uint32(0xFFFF)  # the bits of a float32 that `coarse` drops


@dataclass(frozen=True, slots=True, eq=False)
class LossCurve:
    """The breakpoints of L(t): at `levels[k]` the loss rises to `errors[k]`.

    Both are float32 and strictly increasing; below `levels[0]`, or without breakpoints, it is 0.
    """

    levels: NDArray[np.float32]
    errors: NDArray[np.float32]

    def __post_init__(self) -> None:
        levels = np.ascontiguousarray(self.levels, np.float32)
        errors = np.ascontiguousarray(self.errors, np.float32)
        if levels.ndim != 1 or levels.shape != errors.shape:
            raise ValueError("levels and errors must be vectors of the same length")
        if not (np.isfinite(levels).all() and np.isfinite(errors).all()):
            raise ValueError("levels and errors must be finite")
        rising = (levels[1:] > levels[:-1]).all() and (errors[1:] > errors[:-1]).all()
        if not rising or (errors.size and errors[0] <= 0):
            raise ValueError("levels and errors must be strictly increasing, errors above 0")
        object.__setattr__(self, "levels", levels)
        object.__setattr__(self, "errors", errors)

    def __len__(self) -> int:
        return len(self.levels)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LossCurve):
            return NotImplemented
        return np.array_equal(self.levels, other.levels) and np.array_equal(
            self.errors, other.errors
        )

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def from_maps(cls, indecision: NDArray[np.float32], error: NDArray[np.float32]) -> LossCurve:
        """Make the loss curve of an image from σ and D, float32 [H, W], both finite.

        Raises:
            ValueError: shapes differ, the maps are empty, or a value is not finite or negative.
        """
        if indecision.shape != error.shape or indecision.size == 0:
            raise ValueError(
                f"σ {indecision.shape} and D {error.shape} must be of one non-empty shape"
            )
        sigma = np.ascontiguousarray(indecision, np.float32).reshape(-1)
        loss = np.ascontiguousarray(error, np.float32).reshape(-1)
        # min and max are NaN if any value is, without a temporary of the image.
        if not np.isfinite([sigma.min(), sigma.max()]).all():
            raise ValueError("σ contains values that are not finite")
        if not (loss.min() >= 0 and np.isfinite(loss.max())):
            raise ValueError("D contains values that are negative or not finite")
        # Only what exceeds the curve of some of the pixels can raise that of all.
        coarse_levels, coarse_errors = _running_maximum(sigma[::_STRIDE], loss[::_STRIDE])
        exceeds = loss > _steps_at(coarse_levels, coarse_errors, sigma, "right")
        return cls(
            *_running_maximum(
                np.concatenate([coarse_levels, sigma[exceeds]]),
                np.concatenate([coarse_errors, loss[exceeds]]),
            )
        )

    def coarse(self, most: float) -> LossCurve:
        """Return a coarser curve that is nowhere smaller, up to the largest error that counts.

        Levels are rounded down and errors up to 8 significant bits.
        """
        errors = np.minimum(coarse_up(self.errors), largest_float32(most))
        return LossCurve(*_running_maximum(coarse_down(self.levels), errors))

    def counted(self, most: float) -> LossCurve:
        """Return the loss curve of min(D, most).

        Raises:
            ValueError: `most` is not positive.
        """
        if not most > 0:
            raise ValueError("errors can only be counted up to a positive number")
        limit = largest_float32(most)
        # The first error that reaches the limit is the last one to rise.
        count = int(np.searchsorted(self.errors, limit, side="left")) + 1
        return LossCurve(self.levels[:count], np.minimum(self.errors[:count], limit))

    def exceeding(self, tolerance: float) -> LossCurve:
        """Return the loss curve of 1{D > τ}, which rises once, where L exceeds the tolerance."""
        first = int(np.searchsorted(self.errors.astype(np.float64), tolerance, side="right"))
        return LossCurve(
            self.levels[first : first + 1], np.ones_like(self.errors[first : first + 1])
        )

    def losses(self, thresholds: ArrayLike) -> NDArray[np.float32]:
        """Return L(t) of each threshold: the worst error over the pixels with σ ≤ t, 0 without any.

        It is float32 of the shape of the thresholds.
        """
        return _steps_at(self.levels, self.errors, thresholds, "right")

    def losses_below(self, thresholds: ArrayLike) -> NDArray[np.float32]:
        """Return L(t−) of each threshold: the worst error over the mask {σ < t}, 0 if it is empty.

        It is float32 of the shape of the thresholds.
        """
        return _steps_at(self.levels, self.errors, thresholds, "left")


class LossCurves(Sequence[LossCurve]):
    """Many loss curves in two arrays; each curve is made when it is read.

    levels, errors: float32 [N] of all breakpoints. lengths: int64, how many each curve has.
    starts: int64, where those of each curve begin.
    """

    def __init__(
        self, levels: NDArray[np.float32], errors: NDArray[np.float32], lengths: NDArray[np.int64]
    ) -> None:
        self.levels, self.errors, self.lengths = levels, errors, lengths
        self.starts = np.cumsum(lengths) - lengths

    @classmethod
    def from_curves(cls, curves: Iterable[LossCurve]) -> LossCurves:
        """Join these curves."""
        all_curves = list(curves)
        nothing = np.empty(0, np.float32)
        return cls(
            np.concatenate([*(curve.levels for curve in all_curves), nothing]),
            np.concatenate([*(curve.errors for curve in all_curves), nothing]),
            np.array([len(curve) for curve in all_curves], np.int64),
        )

    def raise_if_inconsistent(self) -> None:
        """Check what a file holds, all curves at once.

        Raises:
            ValueError: the lengths do not add up, or as of each `LossCurve`.
        """
        if (self.lengths < 0).any() or self.lengths.sum() != len(self.levels):
            raise ValueError("the lengths do not add up")
        firsts = self.starts[self.lengths > 0]
        rising = (self.levels[1:] > self.levels[:-1]) & (self.errors[1:] > self.errors[:-1])
        rising[firsts[1:] - 1] = True  # from one to the next
        finite = np.isfinite(self.levels).all() and np.isfinite(self.errors).all()
        if not finite or not rising.all() or (self.errors[firsts] <= 0).any():
            raise ValueError("levels and errors must be finite, rising, and errors above 0")

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, place: int) -> LossCurve:  # type: ignore[override]
        start = self.starts[place]
        own = slice(start, start + self.lengths[place])
        curve = object.__new__(LossCurve)
        object.__setattr__(curve, "levels", self.levels[own])
        object.__setattr__(curve, "errors", self.errors[own])
        return curve

    def __iter__(self) -> Iterator[LossCurve]:
        return (self[place] for place in range(len(self)))

    def take(self, places: NDArray[np.int64]) -> LossCurves:
        """Return the curves at these places, in this order."""
        lengths = self.lengths[places]
        starts = np.repeat(self.starts[places], lengths)
        steps = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return LossCurves(self.levels[starts + steps], self.errors[starts + steps], lengths)

    def losses_below(self, threshold: float) -> NDArray[np.float64]:
        """Return L(t−) of each curve, float64."""
        counts = np.add.reduceat(np.append(self.levels < threshold, False), self.starts)
        counts[self.lengths == 0] = 0
        last = np.where(counts > 0, self.starts + counts - 1, -1)
        losses = np.append(self.errors, np.float32(0))[last]
        return np.asarray(losses.astype(np.float64))


def coarse_down(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the largest float32 of 8 significant bits ≤ each level; 0 stays 0."""
    bits = (levels + np.float32(0)).view(np.uint32)  # −0 becomes 0
    bits = np.where(levels < 0, bits + _LOWER, bits)  # sign and magnitude: down is away from 0
    return np.asarray(bits & ~_LOWER).view(np.float32)


def coarse_up(errors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the smallest float32 of 8 significant bits ≥ each error, which is ≥ 0."""
    bits = np.ascontiguousarray(errors, np.float32).view(np.uint32)
    return np.asarray((bits + _LOWER) & ~_LOWER).view(np.float32)


def _running_maximum(
    sigma: NDArray[np.float32], loss: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Breakpoints of the running maximum of `loss` in the order of `sigma`, ties closed first."""
    sigma = sigma + np.float32(0)  # −0 and 0 are one level
    order = np.argsort(sigma)  # of any order within a level only the largest loss is kept
    sigma = sigma[order]
    running = np.maximum.accumulate(loss[order])
    last = last_of_level(sigma)
    sigma, running = sigma[last], running[last]
    rises = np.append(running[:1] > 0, running[1:] > running[:-1])
    return sigma[rises], running[rises]


def last_of_level(levels: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Mark the last entry of each run of equal values in a sorted vector."""
    return np.append(levels[1:] > levels[:-1], True)[: len(levels)]


def _steps_at(
    levels: NDArray[np.float32],
    errors: NDArray[np.float32],
    thresholds: ArrayLike,
    side: Literal["left", "right"],
) -> NDArray[np.float32]:
    steps = np.append(np.float32(0), errors)
    return np.asarray(steps[np.searchsorted(levels, thresholds, side=side)])
