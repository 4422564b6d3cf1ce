"""The baselines of the paper on the same samples (its §4 and Figure 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from app.conformal.baselines import intervals, weights
from app.conformal.fidelity import FidelitySettings
from app.evaluation.cache import Samples
from app.evaluation.reduce import ErrorMaps

POINTWISE = FidelitySettings(metric="pointwise")

MISS_ALPHA = 0.1
"""Share of values that may lie outside their interval (Angelopoulos et al.)."""

WEIGHTED_ALPHAS = (0.005, 0.01, 0.02, 0.05)
"""Levels of the weighted mean error (Kutiel et al.), which is far smaller than a largest error."""

SHOWN_ALPHA = 0.01


@dataclass(frozen=True, slots=True)
class Compared:
    """What the baselines give on the test images; vectors have one entry per test image.

    intervals: λ̂; outside, width: share of values outside and mean width in [0, 1].
    weighted: per α of `WEIGHTED_ALPHAS` λ, and per image the weighted error and the mean weight.
    """

    intervals: intervals.Calibrated
    outside: NDArray[np.float64]
    width: NDArray[np.float64]
    weighted: NDArray[np.float64]  # [k]
    weighted_error: NDArray[np.float64]  # [m, k]
    weight: NDArray[np.float64]  # [m, k]


@dataclass(slots=True)
class Comparison:
    """Gathers one image after the other, in any order and from any thread."""

    delta: float
    _curves: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    _scales: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    _scores: dict[int, list[float]] = field(default_factory=dict)
    _calibrated: intervals.Calibrated | None = None
    _weighted: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    def calibrate_on(
        self, place: int, maps: ErrorMaps, sigma: NDArray[np.float32], samples: Samples
    ) -> None:
        """Take in a calibration image."""
        widths = self._widths(maps, samples)
        self._curves[place] = intervals.miss_curve(maps.truth, maps.prediction, widths)
        self._scales[place] = weights.image_scale(
            weights.confidence(sigma), maps.error(POINTWISE), WEIGHTED_ALPHAS
        )

    def finish(self) -> None:
        """Calibrate both baselines."""
        curves = in_order(self._curves)
        self._calibrated = intervals.calibrate(curves, alpha=MISS_ALPHA, delta=self.delta)
        scales = in_order(self._scales)
        self._weighted = np.array(
            [weights.calibrate(column, delta=self.delta) for column in scales.T]
        )

    def test_on(
        self, place: int, maps: ErrorMaps, sigma: NDArray[np.float32], samples: Samples
    ) -> None:
        """Score a test image."""
        score = intervals.score(maps.truth, *self.interval(maps, samples))
        confidence, error = weights.confidence(sigma), maps.error(POINTWISE)
        row = [1 - score.coverage, score.mean_width]
        for scale in self._weighted:
            mask = weights.mask(confidence, float(scale))
            row += [weights.weighted_error(mask, error), float(mask.mean())]
        self._scores[place] = row

    def interval(
        self, maps: ErrorMaps, samples: Samples
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """The lower and the upper image of one prediction, uint8 [H, W, 3]."""
        assert self._calibrated is not None  # noqa: S101 - `finish` comes before the test images
        widths = self._widths(maps, samples)
        return intervals.interval(maps.prediction, widths, self._calibrated.scale)

    def weight(self, sigma: NDArray[np.float32]) -> NDArray[np.float64]:
        """The continuous mask of one image at `SHOWN_ALPHA`, float64 [H, W] in [0, 1]."""
        scale = float(self._weighted[WEIGHTED_ALPHAS.index(SHOWN_ALPHA)])
        return weights.mask(weights.confidence(sigma), scale)

    def compared(self) -> Compared:
        """The scores of all test images."""
        assert self._calibrated is not None  # noqa: S101 - as above
        table = in_order(self._scores)
        return Compared(
            self._calibrated,
            table[:, 0],
            table[:, 1],
            self._weighted,
            table[:, 2::2],
            table[:, 3::2],
        )

    def _widths(self, maps: ErrorMaps, samples: Samples) -> intervals.Widths:
        images = samples.images
        settings, last = intervals.IntervalSettings(), len(images) - 1
        if settings.low * last < 1 and settings.high * last > last - 1:
            # With so few samples the quantiles are the extremes, which need no sorting.
            images = np.stack([images.min(axis=0), images.max(axis=0)])
        return intervals.half_widths(images, maps.prediction, settings)


def in_order(found: Mapping[int, Sequence[float] | NDArray[np.float64]]) -> NDArray[np.float64]:
    """The rows by the place of their image, whatever order they came in."""
    return np.array([found[place] for place in sorted(found)], np.float64)
