"""The synthetic annotator: a rule that labels differences in meaning where no person has.

It sees structure and colour, not meaning, so whatever rests on it is called synthetic. On
normalised Lab (`lab.py`):

1. *Colour*: ‖K * Y − K * Ŷ‖₁ > `color`, with K a Gaussian of `blur` pixels, in which slight shifts
   of edges and grain cancel.
2. *Structure*: (1 − SSIM)/2 of the lightness in the same window exceeds `structure` where either
   image has at least the contrast `contrast` (standard deviation of the lightness). SSIM is that of
   Wang et al. 2004 with C₁ = 0.01² and C₂ = 0.03².
3. Either marks a pixel. Marks thinner than a square of `opening` pixels vanish, and the rest grows
   by `margin` pixels, as a person's brush does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy
from numpy.typing import NDArray

from app.conformal.filters import gaussian_blur, gaussian_radius
from app.conformal.lab import Pixels, check_pair, normalised_lab

_C1, _C2 = np.float32(0.01**2), np.float32(0.03**2)


@dataclass(frozen=True, slots=True)
class AnnotatorSettings:
    """The rule and its thresholds, as a calibration records them.

    version: raised whenever a label could change.
    synthetic: always True: the record itself says that no person labelled.
    blur: standard deviation of the Gaussian window in pixels.
    color: blurred colour difference that counts, L1 in normalised Lab.
    structure: structural dissimilarity that counts, in [0, 1].
    contrast: lightness contrast below which structure is not compared.
    opening: side in pixels, odd, of the smallest square that is kept.
    margin: pixels by which the marks grow.
    """

    name: Literal["trustscale-annotator"] = "trustscale-annotator"
    version: Literal[1] = 1
    synthetic: Literal[True] = True
    blur: float = 2.0
    color: float = 0.08
    structure: float = 0.3
    contrast: float = 0.02
    opening: int = 3
    margin: int = 4

    def __post_init__(self) -> None:
        if (self.name, self.version, self.synthetic) != ("trustscale-annotator", 1, True):
            raise ValueError(f"no synthetic annotator {self.name!r} of version {self.version!r}")
        if not 0 < self.blur <= 64:
            raise ValueError("the annotator's blur must be between 0 and 64 pixels")
        if not (self.color > 0 and 0 < self.structure < 1 and self.contrast >= 0):
            raise ValueError("the annotator's thresholds must be positive, structure below 1")
        if not (self.opening % 2 and 1 <= self.opening <= 63 and 0 <= self.margin <= 64):
            raise ValueError("opening must be odd and between 1 and 63, margin between 0 and 64")

    @property
    def title(self) -> str:
        """How answers and reports call it."""
        return f"synthetic annotator {self.name} version {self.version}"

    @property
    def radius(self) -> int:
        """How far, in pixels, the label of a pixel looks."""
        return gaussian_radius(self.blur) + 2 * (self.opening // 2) + self.margin


def label(
    truth_rgb: Pixels, prediction_rgb: Pixels, settings: AnnotatorSettings | None = None
) -> NDArray[np.bool_]:
    """Where the rule finds that the meaning differs, bool [H, W], of two images (`check_pair`)."""
    settings = settings or AnnotatorSettings()
    check_pair(truth_rgb, prediction_rgb)
    truth, prediction = normalised_lab(truth_rgb), normalised_lab(prediction_rgb)
    marks = color_difference(truth, prediction, settings.blur) > settings.color
    lightness, made = truth[0].copy(), prediction[0].copy()
    del truth, prediction  # two thirds of what is held, and not looked at again
    marks |= structure_difference(lightness, made, settings) > settings.structure
    return _brushed(marks, settings)


def color_difference(
    truth: NDArray[np.float32], prediction: NDArray[np.float32], blur: float
) -> NDArray[np.float32]:
    """‖K * Y − K * Ŷ‖₁ per pixel, float32 [H, W], of normalised Lab [3, H, W]."""
    difference = np.zeros(truth.shape[1:], np.float32)
    for ours, theirs in zip(truth, prediction, strict=True):
        difference += np.abs(gaussian_blur(ours - theirs, blur))
    return difference


def structure_difference(
    truth: NDArray[np.float32], prediction: NDArray[np.float32], settings: AnnotatorSettings
) -> NDArray[np.float32]:
    """(1 − SSIM)/2 of two lightness planes, float32 [H, W]; 0 where both lack contrast."""
    mean_a, mean_b, square_a, square_b, product = (
        gaussian_blur(plane, settings.blur)
        for plane in (truth, prediction, truth * truth, prediction * prediction, truth * prediction)
    )
    variance_a = np.maximum(square_a - mean_a * mean_a, 0)
    variance_b = np.maximum(square_b - mean_b * mean_b, 0)
    means = mean_a * mean_b
    similarity = (2 * means + _C1) * (2 * (product - means) + _C2)
    similarity /= (mean_a * mean_a + mean_b * mean_b + _C1) * (variance_a + variance_b + _C2)
    has_contrast = np.maximum(variance_a, variance_b) >= np.float32(settings.contrast**2)
    return np.where(has_contrast, (1 - similarity) / 2, np.float32(0))


def _brushed(marks: NDArray[np.bool_], settings: AnnotatorSettings) -> NDArray[np.bool_]:
    """Opened by a square, then grown by the margin."""
    planes = scipy.ndimage.minimum_filter(marks.view(np.uint8), settings.opening)
    # The second half of the opening and the margin are one dilation.
    planes = scipy.ndimage.maximum_filter(planes, settings.opening + 2 * settings.margin)
    return np.asarray(planes, np.bool_)
