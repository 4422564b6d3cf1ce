"""The price of certainty: what one, two or more generations of one image let one trust."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.calibration.config import CalibrationConfig
from app.calibration.manifest import PricePoint
from app.calibration.price import priced
from app.conformal import RiskCurve, Staircase, fidelity
from app.evaluation.samples import Image, wanted
from app.sampling.pipeline import Pipeline
from app.upscalers.base import Upscaler


@dataclass(slots=True)
class Price:
    """A calibration for each number of generations (a `Comparison`).

    pipelines: those that calibrations with so many samples would have, M by M.
    thresholds: t_α, [M, α]. scores: trusted share of each test image, [m, M, α].
    """

    upscaler: Upscaler
    alphas: Sequence[float]
    pipelines: Sequence[Pipeline]
    thresholds: NDArray[np.float64] = field(init=False)
    scores: NDArray[np.float64] = field(init=False)

    @classmethod
    def of(cls, upscaler: Upscaler, alphas: Sequence[float], samples: Sequence[int]) -> Price:
        """Under the usual settings for each M that the upscaler can draw."""
        most = upscaler.capabilities.max_samples or max(samples, default=0)
        counts = sorted({count for count in samples if count <= most})
        made = [CalibrationConfig(samples=count).pipeline(upscaler) for count in counts]
        return cls(upscaler, alphas, made)

    def seen(self, image: Image) -> list[tuple[Staircase, float]]:
        """The staircase and the largest σ of a calibration image, M by M."""
        return [
            (Staircase.from_maps(sigma, image.maps.error(pipeline.fidelity)), float(sigma.max()))
            for pipeline, sigma in zip(self.pipelines, self._sigmas(image), strict=True)
        ]

    def calibrate(
        self, images: Sequence[Sequence[tuple[Staircase, float]]], scenes: Sequence[str]
    ) -> None:
        """Find the thresholds."""
        curves = [
            RiskCurve.from_staircases(
                [image[k][0] for image in images],
                fidelity.bound(pipeline.fidelity),
                scenes=scenes,
                highest=max(image[k][1] for image in images),
            )
            for k, pipeline in enumerate(self.pipelines)
        ]
        self.thresholds = np.array([[c.threshold(alpha) for alpha in self.alphas] for c in curves])

    def tested(self, image: Image) -> list[list[float]]:
        """The trusted shares of a test image."""
        return [
            [float(np.mean(sigma < threshold)) for threshold in thresholds]
            for sigma, thresholds in zip(self._sigmas(image), self.thresholds, strict=True)
        ]

    def rows(self, seconds: float | None, price_per_call: float | None) -> list[dict[str, Any]]:
        """A row per M and α; `seconds` are those of the largest M."""
        areas = self.scores.mean(axis=0)
        points = [
            PricePoint(
                samples=pipeline.samples,
                alpha=float(alpha),
                trusted_area=float(area),
                seconds=seconds
                and round(seconds * pipeline.samples / self.pipelines[-1].samples, 3),
            )
            for pipeline, line in zip(self.pipelines, areas, strict=True)
            for alpha, area in zip(self.alphas, line, strict=True)
        ]
        return priced(points, self.upscaler.capabilities.samples_per_call, price_per_call)

    def _sigmas(self, image: Image) -> list[NDArray[np.float32]]:
        return [image.found.measurements[wanted(pipeline)].sigma for pipeline in self.pipelines]
