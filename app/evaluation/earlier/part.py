"""Earlier methods on the same samples (the paper's §4 and Figure 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from app.conformal.fidelity import FidelitySettings
from app.conformal.lab import Pixels
from app.evaluation.earlier import intervals, weights
from app.evaluation.measure import Image
from app.evaluation.plots import Record
from app.sampling.pipeline import Pipeline

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
class Earlier:
    """Both methods, calibrated on the calibration images (a `Part`).

    scale: λ̂ of the intervals. weighted: λ for each of `WEIGHTED_ALPHAS`, [k].
    scores: [m, 2 + 2k]; of each test image the share of values outside and the mean width in [0,
    1], then for each of `WEIGHTED_ALPHAS` the weighted error and the mean weight.
    """

    pipeline: Pipeline
    delta: float
    scale: float = field(init=False)
    weighted: NDArray[np.float64] = field(init=False)
    scores: NDArray[np.float64] = field(init=False)

    def seen(self, image: Image) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What a calibration image loses at every scale of the intervals, and its own λ."""
        prediction = image.prediction(self.pipeline)
        return (
            intervals.miss_curve(image.pair.y, prediction, self._widths(image)),
            weights.image_scale(self._confidence(image), self._error(image), WEIGHTED_ALPHAS),
        )

    def calibrate(self, images: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> None:
        """Calibrate both; neither knows scenes."""
        curves, scales = (np.array(part) for part in zip(*images, strict=True))
        self.scale = intervals.calibrate(curves, alpha=MISS_ALPHA, delta=self.delta)
        self.weighted = np.array(
            [weights.calibrate(column, delta=self.delta) for column in scales.T]
        )

    def tested(self, image: Image) -> list[float]:
        """The scores of a test image."""
        score = intervals.score(image.pair.y, *self.interval(image))
        row = [1 - score.coverage, score.mean_width]
        for scale in self.weighted:
            mask = weights.mask(self._confidence(image), float(scale))
            row += [weights.weighted_error(mask, self._error(image)), float(mask.mean())]
        return row

    def gather(self, images: Sequence[list[float]]) -> None:
        """Keep the scores."""
        self.scores = np.array(images)

    def interval(self, image: Image) -> tuple[Pixels, Pixels]:
        """The lower and the upper image of one prediction, uint8 [H, W, 3]."""
        return intervals.interval(image.prediction(self.pipeline), self._widths(image), self.scale)

    def weight(self, image: Image) -> NDArray[np.float64]:
        """The continuous mask of one image at `SHOWN_ALPHA`, float64 [H, W] in [0, 1]."""
        scale = float(self.weighted[WEIGHTED_ALPHAS.index(SHOWN_ALPHA)])
        return weights.mask(self._confidence(image), scale)

    def _widths(self, image: Image) -> intervals.Widths:
        return intervals.half_widths(image.samples.images, image.prediction(self.pipeline))

    def _confidence(self, image: Image) -> NDArray[np.float64]:
        return weights.confidence(image.sigma(self.pipeline))

    def _error(self, image: Image) -> NDArray[np.float32]:
        return image.error(self.pipeline, POINTWISE)

    def records(self, whole: float) -> list[Record]:
        """What each method promises, whether that can be relied on, and the result.

        whole: mean of the largest D of the whole image.
        """
        outside, width, *weighted = (float(column.mean()) for column in self.scores.T)
        rows: list[tuple[object, ...]] = [
            ("none", "nothing", "none", None, None, whole, 1.0),
            (
                "intervals (Angelopoulos et al. 2022b)",
                "share of values outside their interval",
                "proven, with high probability",
                *(MISS_ALPHA, self.scale, outside, width),
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
