"""How the blurs of σ and of D change the mask (the paper's Figure 5).

Every combination is calibrated for itself. Since only the shape of the effect is of interest, a few
dozen images are enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from app.conformal import RiskCurve, Staircase, fidelity
from app.conformal.fidelity import FidelitySettings
from app.conformal.filters import gaussian_blur
from app.conformal.indecision import Accumulator, IndecisionSettings
from app.evaluation.cache import Samples
from app.evaluation.reduce import ErrorMaps

BLURS = (0.0, 4.0, 16.0)
"""Standard deviations in pixels that are combined: none, the default, four times the default."""

MOST_CALIBRATION, MOST_TEST = 40, 12


@dataclass(frozen=True, slots=True)
class Grid:
    """thresholds, areas: [blur of σ, blur of D]; areas are means over `n_test` images."""

    alpha: float
    n_calibration: int
    n_test: int
    thresholds: NDArray[np.float64]
    areas: NDArray[np.float64]


@dataclass(slots=True)
class Sketch:
    """Gathers one image after the other, in any order and from any thread."""

    _stairs: dict[int, list[list[Staircase]]] = field(default_factory=dict)
    _areas: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    _thresholds: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    _alpha: float = 0.0

    def calibrate_on(self, place: int, maps: ErrorMaps, samples: Samples) -> None:
        """Take in a calibration image."""
        errors = [maps.error(_metric(blur)) for blur in BLURS]
        self._stairs[place] = [
            [Staircase.from_maps(sigma, error) for error in errors]
            for sigma in self.sigmas(samples)
        ]

    def finish(self, alpha: float) -> None:
        """Find the threshold of every combination."""
        images = [self._stairs[place] for place in sorted(self._stairs)]
        bound = fidelity.bound(_metric(0))
        self._alpha = alpha
        self._thresholds = np.array(
            [
                [
                    RiskCurve.from_staircases([im[i][j] for im in images], bound).threshold(alpha)
                    for j in range(len(BLURS))
                ]
                for i in range(len(BLURS))
            ]
        )

    def test_on(self, place: int, samples: Samples) -> None:
        """Measure the masks of a test image."""
        self._areas[place] = np.array([[m.mean() for m in row] for row in self.masks(samples)])

    def masks(self, samples: Samples) -> list[list[NDArray[np.bool_]]]:
        """The trust mask of every combination, bool [H, W]."""
        return [
            [sigma < threshold for threshold in row]
            for sigma, row in zip(self.sigmas(samples), self._thresholds, strict=True)
        ]

    def sigmas(self, samples: Samples) -> Sequence[NDArray[np.float32]]:
        """The default σ under every blur, float32 [H, W]."""
        images = samples.images
        accumulator = Accumulator(images.shape[1:3], replace(IndecisionSettings(), blur=0.0))
        for image in images:
            accumulator.add(image)
        sharp = accumulator.result()
        return [np.maximum(gaussian_blur(sharp, blur), np.float32(0)) for blur in BLURS]

    def grid(self) -> Grid:
        """The combinations and their mean trusted area."""
        areas = np.array([self._areas[place] for place in sorted(self._areas)])
        return Grid(
            self._alpha, len(self._stairs), len(areas), self._thresholds, areas.mean(axis=0)
        )


def _metric(blur: float) -> FidelitySettings:
    # Without blur the neighbourhood is the pixel; naming it `pointwise` shares that variant's map.
    if blur == 0:
        return FidelitySettings(metric="pointwise")
    return FidelitySettings(metric="neighborhood", blur=blur)
