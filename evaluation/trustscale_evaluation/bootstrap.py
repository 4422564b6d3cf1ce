"""Intervals by the bootstrap over scenes.

Each replicate draws scenes with replacement and weighs an image by how often its scene was drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_LEVEL = 0.95


class Interval(NamedTuple):
    """A mean and the ends of its interval; NaN with nothing to average."""

    mean: float
    low: float
    high: float
    images: int


def weights(groups: Sequence[str], replicates: int, seed: int) -> NDArray[np.float64]:
    """Return how often each image counts in each replicate, [R, n]."""
    names, member = np.unique(np.asarray(groups, np.str_), return_inverse=True)
    random = np.random.Generator(np.random.PCG64(seed))
    counts = random.multinomial(len(names), np.full(len(names), 1 / len(names)), size=replicates)
    return np.asarray(counts[:, member], np.float64)


def mean_intervals(values: NDArray[np.float64], draws: NDArray[np.float64]) -> list[Interval]:
    """Return percentile intervals of the means of the columns.

    Args:
        values: [n, k]; those that are not finite are left out.
        draws: `weights` of the n images, [R, n].
    """
    usable = np.isfinite(values)
    filled = np.where(usable, values, 0.0)
    counts = usable.sum(axis=0)
    with np.errstate(invalid="ignore"):
        means = filled.sum(axis=0) / counts
        replicates = (draws @ filled) / (draws @ usable)
    columns = zip(means.tolist(), replicates.T, counts.tolist(), strict=True)
    return [Interval(mean, *percentile(column), count) for mean, column, count in columns]


def percentile(replicates: NDArray[np.float64]) -> tuple[float, float]:
    """Return the ends of the middle 95 % of the replicates; NaN ones are left out."""
    known = replicates[~np.isnan(replicates)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)


def resampled_losses(
    calibration: NDArray[np.float64],
    test: NDArray[np.floating],
    bound: float,
    alphas: Sequence[float],
    draws: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Return the sum of the losses of test images in every replicate of both sides, [A, R].

    Each replicate finds the threshold anew from the resampled calibration scenes, on a grid.

    Args:
        calibration: L̄_i(t) of the calibration scenes at the grid of thresholds, [n, G]: of the
        mask {σ ≤ t}, rising along the grid.
        test: losses of the test images for the masks {σ < t}, and last for the whole image, [m, G +
        1].
        bound: B.
        alphas: the levels.
        draws: `weights` of the n scenes and of the m images.
    """
    of_calibration, of_test = draws
    n = of_calibration.sum(axis=1)
    risks = (of_calibration @ calibration + bound) / (n[:, None] + 1)
    risks = np.append(risks, np.full((len(risks), 1), np.inf), axis=1)
    losses = of_test @ test
    sums = []
    for alpha in alphas:
        place = np.argmax(risks > alpha, axis=1)
        is_empty = bound / (n + 1) > alpha
        sums.append(np.where(is_empty, 0, losses[np.arange(len(losses)), place]))
    return np.array(sums)


@dataclass(frozen=True, slots=True)
class Resamples:
    """The bootstrap draws of an evaluation."""

    test: NDArray[np.float64]
    seed: int

    @classmethod
    def from_scenes(cls, test_scenes: Sequence[str], seed: int) -> Resamples:
        """Draw the scenes of the test images."""
        return cls(weights(test_scenes, replicates=2000, seed=seed), seed)

    def of_places(self, places: Sequence[int]) -> Resamples:
        """Return the draws of some of the test images."""
        return Resamples(self.test[:, places], self.seed)

    def calibration(self, scenes: int) -> NDArray[np.float64]:
        """Draw the weights of this many calibration scenes."""
        return weights([f"{k:06}" for k in range(scenes)], replicates=1000, seed=self.seed + 1)
