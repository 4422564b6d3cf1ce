"""The paper's baselines on the same samples: `intervals.py` and `weighted_masks.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trustscale_evaluation.intervals import (
    HalfWidths,
    half_widths,
    interval,
    interval_scale,
    interval_score,
    miss_curve,
)
from trustscale_evaluation.measure import EvaluatedImage
from trustscale_evaluation.records import Record
from trustscale_evaluation.reduce import Method
from trustscale_evaluation.weighted_masks import (
    confidence,
    image_scale,
    mask_scale,
    weight_mask,
    weighted_error,
)
from trustscale_server.conformal.fidelity import FidelitySettings
from trustscale_server.pixels.lab import Pixels
from trustscale_server.sampling.spec import MeasurementSpec

_MISS_ALPHA = 0.1
"""Share of values that may lie outside their interval (Angelopoulos et al.)."""

_WEIGHTED_ALPHAS = (0.005, 0.01, 0.02, 0.05)
"""Levels of the weighted mean error (Kutiel et al.), which is far smaller than a largest error."""

SHOWN_ALPHA = 0.01


@dataclass(slots=True)
class Earlier(Method):
    """Both methods, calibrated on the calibration images.

    scale: λ̂ of the intervals. weighted: λ for each of `_WEIGHTED_ALPHAS`, [k].
    scores: [m, 2 + 2k]; of each test image the share of values outside and the mean width in [0,
    1], then for each of `_WEIGHTED_ALPHAS` the weighted error and the mean weight.
    """

    pipeline: MeasurementSpec
    delta: float
    scale: float = field(init=False)
    weighted: NDArray[np.float64] = field(init=False)
    scores: NDArray[np.float64] = field(init=False)

    def reduce_calibration(
        self, image: EvaluatedImage
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what a calibration image loses at every scale of the intervals, and its own λ."""
        prediction = image.prediction(self.pipeline)
        return (
            miss_curve(image.pair.y, prediction, self._widths(image)),
            image_scale(self._confidence(image), self._error(image), _WEIGHTED_ALPHAS),
        )

    def calibrate(self, images: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> None:
        """Calibrate both methods; neither knows scenes."""
        curves, scales = (np.array(values) for values in zip(*images, strict=True))
        self.scale = interval_scale(curves, alpha=_MISS_ALPHA, delta=self.delta)
        self.weighted = np.array([mask_scale(column, delta=self.delta) for column in scales.T])

    def reduce_test(self, image: EvaluatedImage) -> list[float]:
        """Return the scores of a test image."""
        row = [*interval_score(image.pair.y, *self.interval(image))]
        for scale in self.weighted:
            mask = weight_mask(self._confidence(image), float(scale))
            row += [weighted_error(mask, self._error(image)), float(mask.mean())]
        return row

    def gather(self, images: Sequence[list[float]]) -> None:
        """Store the scores."""
        self.scores = np.array(images)

    def interval(self, image: EvaluatedImage) -> tuple[Pixels, Pixels]:
        """Return the lower and the upper image of one prediction, uint8 [H, W, 3]."""
        return interval(image.prediction(self.pipeline), self._widths(image), self.scale)

    def weight(self, image: EvaluatedImage) -> NDArray[np.float64]:
        """Return the continuous mask of one image at `SHOWN_ALPHA`, float64 [H, W] in [0, 1]."""
        scale = float(self.weighted[_WEIGHTED_ALPHAS.index(SHOWN_ALPHA)])
        return weight_mask(self._confidence(image), scale)

    def _widths(self, image: EvaluatedImage) -> HalfWidths:
        return half_widths(image.samples.images, image.prediction(self.pipeline))

    def _confidence(self, image: EvaluatedImage) -> NDArray[np.float64]:
        return confidence(image.sigma(self.pipeline))

    def _error(self, image: EvaluatedImage) -> NDArray[np.float32]:
        return image.error(self.pipeline, FidelitySettings(metric="pointwise"))

    def records(self, unmasked: float) -> list[Record]:
        """Return what each method promises, whether that can be relied on, and the result.

        unmasked: mean of the largest D of the whole image.
        """
        outside, width, *weighted = (float(column.mean()) for column in self.scores.T)
        rows: list[tuple[object, ...]] = [
            ("none", "nothing", "none", None, None, unmasked, 1.0),
            (
                "intervals (Angelopoulos et al. 2022b)",
                "share of values outside their interval",
                "proven, with high probability",
                *(_MISS_ALPHA, self.scale, outside, width),
            ),
        ]
        rows += [
            (
                "continuous mask (Kutiel et al. 2023)",
                "weighted mean error",
                "claimed, disproven (paper, Appendix B)",
                *(alpha, float(self.weighted[k]), *weighted[2 * k : 2 * k + 2]),
            )
            for k, alpha in enumerate(_WEIGHTED_ALPHAS)
        ]
        columns = (
            "method",
            "keeps_small",
            "guarantee",
            "alpha",
            "scale",
            "realised",
            "mean_width_or_weight",
        )
        return [dict(zip(columns, row, strict=True)) for row in rows]
