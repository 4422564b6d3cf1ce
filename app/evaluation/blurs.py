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
from app.evaluation.samples import Image

BLURS = (0.0, 4.0, 16.0)
"""Standard deviations in pixels that are combined: none, the default, four times the default."""

MOST_CALIBRATION, MOST_TEST = 40, 12


@dataclass(slots=True)
class Blurs:
    """The masks at α under every combination (a `Comparison`).

    n_calibration: number of images that calibrated. thresholds: t_α, [blur of σ, blur of D].
    scores: trusted share of each test image, [m, blur of σ, blur of D].
    """

    alpha: float
    n_calibration: int = field(init=False)
    thresholds: NDArray[np.float64] = field(init=False)
    scores: NDArray[np.float64] = field(init=False)

    def seen(self, image: Image) -> list[list[Staircase]] | None:
        """The staircases of a calibration image; None: enough were seen."""
        if image.place >= MOST_CALIBRATION:
            return None
        errors = [image.maps.error(_metric(blur)) for blur in BLURS]
        return [
            [Staircase.from_maps(sigma, error) for error in errors]
            for sigma in _sigmas(image.found.samples)
        ]

    def calibrate(self, images: Sequence[list[list[Staircase]]], scenes: Sequence[str]) -> None:
        """Find the threshold of every combination; every image is a scene of its own."""
        del scenes
        self.n_calibration = len(images)
        bound = fidelity.bound(_metric(0))
        self.thresholds = np.array(
            [
                [
                    RiskCurve.from_staircases(column, bound).threshold(self.alpha)
                    for column in zip(*row, strict=True)
                ]
                for row in zip(*images, strict=True)
            ]
        )

    def tested(self, image: Image) -> list[list[float]] | None:
        """The trusted shares of a test image; None: enough were tested."""
        if image.place >= MOST_TEST:
            return None
        return [[float(mask.mean()) for mask in row] for row in self.masks(image.found.samples)]

    def masks(self, samples: Samples) -> list[list[NDArray[np.bool_]]]:
        """The trust mask of every combination, bool [H, W]."""
        return [
            [sigma < threshold for threshold in row]
            for sigma, row in zip(_sigmas(samples), self.thresholds, strict=True)
        ]


def _sigmas(samples: Samples) -> list[NDArray[np.float32]]:
    """The default σ under every blur, float32 [H, W]."""
    images = samples.images
    accumulator = Accumulator(images.shape[1:3], replace(IndecisionSettings(), blur=0.0))
    for image in images:
        accumulator.add(image)
    sharp = accumulator.result()
    return [np.maximum(gaussian_blur(sharp, blur), np.float32(0)) for blur in BLURS]


def _metric(blur: float) -> FidelitySettings:
    # Without blur the neighbourhood is the pixel; naming it `pointwise` shares that variant's map.
    if blur == 0:
        return FidelitySettings(metric="pointwise")
    return FidelitySettings(metric="neighborhood", blur=blur)
