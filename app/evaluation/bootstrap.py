"""Intervals by resampling images, or groups of images that belong together.

A statistic is a mean over images. Each replicate draws groups with replacement and weighs an image
by how often its group was drawn; images of one group are not independent evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

REPLICATES = 2000
LEVEL = 0.95


class Interval(NamedTuple):
    """A mean and the ends of its interval; NaN where there is nothing to average."""

    mean: float
    low: float
    high: float
    images: int


def weights(groups: Sequence[str], replicates: int, seed: int) -> NDArray[np.float64]:
    """How often each image counts in each replicate, [R, n]."""
    names, member = np.unique(np.asarray(groups, np.str_), return_inverse=True)
    random = np.random.Generator(np.random.PCG64(seed))
    drawn = random.multinomial(len(names), np.full(len(names), 1 / len(names)), size=replicates)
    return np.asarray(drawn[:, member], np.float64)


def mean_intervals(values: NDArray[np.float64], drawn: NDArray[np.float64]) -> list[Interval]:
    """Percentile intervals of the means of the columns.

    Args:
        values: [n, k]; values that are not finite are left out of their column's mean.
        drawn: `weights` of the n images, [R, n].
    """
    usable = np.isfinite(values)
    filled = np.where(usable, values, 0.0)
    counts = usable.sum(axis=0)
    with np.errstate(invalid="ignore"):
        means = filled.sum(axis=0) / counts
        replicates = (drawn @ filled) / (drawn @ usable)
    return [
        Interval(float(mean), *percentile(replicates[:, column]), int(count))
        for column, (mean, count) in enumerate(zip(means, counts, strict=True))
    ]


def percentile(replicates: NDArray[np.float64]) -> tuple[float, float]:
    """The ends of the middle 95 % of the replicates; NaN ones had nothing to average."""
    known = replicates[~np.isnan(replicates)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def lost(
    calibration: NDArray[np.float64],
    test: NDArray[np.floating],
    bound: float,
    alphas: Sequence[float],
    drawn: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """The sum of the losses of test images in every replicate of both sides, [A, R].

    In each replicate the threshold is found anew from the resampled calibration scenes, on a grid.

    Args:
        calibration: losses L̄_i(t) of the calibration scenes at the grid of thresholds, [n, G]: the
            loss of the mask {σ ≤ t}, rising along the grid.
        test: losses of the test images for the masks {σ < t} at the same grid, and last for the
            whole image, [m, G + 1].
        bound: B.
        alphas: the levels.
        drawn: `weights` of the n scenes and of the m images, of the same number of replicates.
    """
    of_calibration, of_test = drawn
    n = of_calibration.sum(axis=1)
    risks = (of_calibration @ calibration + bound) / (n[:, None] + 1)
    risks = np.append(risks, np.full((len(risks), 1), np.inf), axis=1)
    losses = of_test @ test
    found = []
    for alpha in alphas:
        place = np.argmax(risks > alpha, axis=1)
        is_empty = bound / (n + 1) > alpha
        found.append(np.where(is_empty, 0, losses[np.arange(len(losses)), place]))
    return np.array(found)
