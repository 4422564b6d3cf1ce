"""The baselines of the paper on the same samples (its §4 and Figure 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from app.conformal.baselines import intervals, weights
from app.conformal.fidelity import FidelitySettings
from app.evaluation.samples import Image

POINTWISE = FidelitySettings(metric="pointwise")

MISS_ALPHA = 0.1
"""Share of values that may lie outside their interval (Angelopoulos et al.)."""

WEIGHTED_ALPHAS = (0.005, 0.01, 0.02, 0.05)
"""Levels of the weighted mean error (Kutiel et al.), which is far smaller than a largest error."""

SHOWN_ALPHA = 0.01

COLUMNS = (
    "method",
    "keeps_small",
    "guarantee",
    "alpha",
    "scale",
    "realised",
    "mean_width_or_weight",
)


@dataclass(slots=True)
class Baselines:
    """Both methods, calibrated on the calibration images (a `Comparison`).

    scale: λ̂ of the intervals. weighted: λ for each of `WEIGHTED_ALPHAS`, [k].
    scores: of each test image the share of values outside their interval and the mean width in
        [0, 1], and then for each of `WEIGHTED_ALPHAS` the weighted error and the mean weight,
        [m, 2 + 2k].
    """

    delta: float
    scale: float = field(init=False)
    weighted: NDArray[np.float64] = field(init=False)
    scores: NDArray[np.float64] = field(init=False)

    def seen(self, image: Image) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What a calibration image loses at every scale of the intervals, and its own λ."""
        maps = image.maps
        widths = intervals.half_widths(image.found.samples.images, maps.prediction)
        confidence = weights.confidence(image.sigma)
        return (
            intervals.miss_curve(maps.truth, maps.prediction, widths),
            weights.image_scale(confidence, maps.error(POINTWISE), WEIGHTED_ALPHAS),
        )

    def calibrate(
        self,
        images: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
        scenes: Sequence[str],
    ) -> None:
        """Calibrate both; neither knows of scenes."""
        del scenes
        curves, scales = (np.array(part) for part in zip(*images, strict=True))
        self.scale = intervals.calibrate(curves, alpha=MISS_ALPHA, delta=self.delta)
        self.weighted = np.array(
            [weights.calibrate(column, delta=self.delta) for column in scales.T]
        )

    def tested(self, image: Image) -> list[float]:
        """The scores of a test image."""
        score = intervals.score(image.maps.truth, *self.interval(image))
        confidence, error = weights.confidence(image.sigma), image.maps.error(POINTWISE)
        row = [1 - score.coverage, score.mean_width]
        for scale in self.weighted:
            mask = weights.mask(confidence, float(scale))
            row += [weights.weighted_error(mask, error), float(mask.mean())]
        return row

    def interval(self, image: Image) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """The lower and the upper image of one prediction, uint8 [H, W, 3]."""
        prediction = image.maps.prediction
        widths = intervals.half_widths(image.found.samples.images, prediction)
        return intervals.interval(prediction, widths, self.scale)

    def weight(self, sigma: NDArray[np.float32]) -> NDArray[np.float64]:
        """The continuous mask of one image at `SHOWN_ALPHA`, float64 [H, W] in [0, 1]."""
        scale = float(self.weighted[WEIGHTED_ALPHAS.index(SHOWN_ALPHA)])
        return weights.mask(weights.confidence(sigma), scale)

    def records(self, whole: float) -> list[dict[str, object]]:
        """What each method promises, whether that can be relied on, and what came.

        Args:
            whole: mean of the largest D of the whole image, which no method at all gives.
        """
        outside, width, *weighted = (float(column.mean()) for column in self.scores.T)
        scale = self.scale if np.isfinite(self.scale) else str(self.scale)
        rows: list[tuple[object, ...]] = [
            ("none", "nothing", "none", None, None, whole, 1.0),
            (
                "intervals (Angelopoulos et al. 2022b)",
                "share of values outside their interval",
                "proven, with high probability",
                *(MISS_ALPHA, scale, outside, width),
            ),
        ]
        rows += [
            (
                "continuous mask (Kutiel et al. 2023)",
                "weighted mean error",
                "claimed, disproven (paper, Appendix B)",
                *(alpha, float(self.weighted[k]), *weighted[2 * k : 2 * k + 2]),
            )
            for k, alpha in enumerate(WEIGHTED_ALPHAS)
        ]
        return [dict(zip(COLUMNS, row, strict=True)) for row in rows]
