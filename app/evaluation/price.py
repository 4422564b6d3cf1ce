"""The price of certainty: what one, two or more generations of one image let one trust."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.calibration.config import CalibrationConfig
from app.calibration.manifest import PricePoint
from app.calibration.price import priced
from app.conformal import RiskCurve, Staircase, fidelity
from app.evaluation.reduce import ErrorMaps
from app.evaluation.samples import Wanted, wanted
from app.sampling.measure import Measurement
from app.sampling.pipeline import Pipeline
from app.upscalers.base import Upscaler


@dataclass(slots=True)
class Price:
    """Gathers one image after the other, in any order and from any thread.

    `pipelines` are those that calibrations with so many samples would have, M by M.
    """

    upscaler: Upscaler
    alphas: Sequence[float]
    pipelines: Sequence[Pipeline]
    _stairs: dict[int, list[Staircase]] = field(default_factory=dict)
    _highest: dict[int, list[float]] = field(default_factory=dict)
    _thresholds: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    _areas: dict[int, NDArray[np.float64]] = field(default_factory=dict)

    @classmethod
    def of(cls, upscaler: Upscaler, alphas: Sequence[float], samples: Sequence[int]) -> Price:
        """Under the usual settings for each M that the upscaler can draw."""
        most = upscaler.capabilities.max_samples or max(samples, default=0)
        counts = sorted({count for count in samples if count <= most})
        made = [CalibrationConfig(samples=count).pipeline(upscaler) for count in counts]
        return cls(upscaler, alphas, made)

    def calibrate_on(
        self, place: int, maps: ErrorMaps, found: Mapping[Wanted, Measurement]
    ) -> None:
        """Take in a calibration image."""
        self._stairs[place], self._highest[place] = [], []
        for pipeline in self.pipelines:
            sigma = found[wanted(pipeline)].sigma
            self._stairs[place].append(Staircase.from_maps(sigma, maps.error(pipeline.fidelity)))
            self._highest[place].append(float(sigma.max()))

    def finish(self, scenes: Sequence[str]) -> None:
        """All calibration images were taken in; `scenes` are theirs."""
        places = sorted(self._stairs)
        curves = [
            RiskCurve.from_staircases(
                [self._stairs[place][k] for place in places],
                fidelity.bound(pipeline.fidelity),
                scenes=scenes,
                highest=max(self._highest[place][k] for place in places),
            )
            for k, pipeline in enumerate(self.pipelines)
        ]
        self._thresholds = np.array([[c.threshold(alpha) for alpha in self.alphas] for c in curves])

    def test_on(self, place: int, found: Mapping[Wanted, Measurement]) -> None:
        """Measure the masks of a test image."""
        self._areas[place] = np.array(
            [
                [np.mean(found[wanted(pipeline)].sigma < threshold) for threshold in thresholds]
                for pipeline, thresholds in zip(self.pipelines, self._thresholds, strict=True)
            ]
        )

    def rows(self, seconds: float | None, price_per_call: float | None) -> list[dict[str, Any]]:
        """A row per M and α; `seconds` are those of the largest M."""
        if not self.pipelines:
            return []
        most = self.pipelines[-1].samples
        points = [
            PricePoint(
                samples=pipeline.samples,
                alpha=float(alpha),
                trusted_area=float(area),
                seconds=None if seconds is None else round(seconds * pipeline.samples / most, 3),
            )
            for pipeline, line in zip(
                self.pipelines, np.mean([*self._areas.values()], axis=0), strict=True
            )
            for alpha, area in zip(self.alphas, line, strict=True)
        ]
        return priced(points, self.upscaler.capabilities.samples_per_call, price_per_call)
