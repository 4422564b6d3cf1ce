"""One image's maps, reduced to the few numbers that tables and figures need.

Thresholds are known before the first test image is looked at, so its maps are reduced at once and
let go: memory does not grow with the number of images, and nothing is binned or approximated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.conformal import Staircase, fidelity
from app.conformal.fidelity import FidelitySettings
from app.conformal.lab import normalised_lab
from app.upscalers.base import RGB

SEMANTIC = FidelitySettings(metric="semantic", labels="synthetic")
"""The semantic columns: labels of a rule, since no person has marked these predictions."""


class ErrorMaps:
    """What can be said of one prediction against its truth; each map is made when asked for."""

    def __init__(self, truth: RGB, prediction: RGB) -> None:
        self.truth = truth
        self.prediction = prediction
        self._errors: dict[FidelitySettings, NDArray[np.float32]] = {}

    def error(self, settings: FidelitySettings) -> NDArray[np.float32]:
        """D, float32 [H, W]; settings that differ only in their B share what is measured."""
        uncut = replace(settings, bound=None)
        if uncut not in self._errors:
            self._errors[uncut] = fidelity.error(self.truth, self.prediction, uncut)
        measured = self._errors[uncut]
        if not fidelity.clips(settings):
            return measured
        return np.minimum(measured, fidelity.largest_float32(fidelity.bound(settings)))

    @cached_property
    def squared_rgb(self) -> NDArray[np.int64]:
        """Σ over the channels of (Y − Ŷ)² in levels of 255, [H, W]."""
        difference = self.truth.astype(np.int64) - self.prediction
        return np.asarray(np.einsum("hwc,hwc->hw", difference, difference))

    @cached_property
    def squared_lab(self) -> NDArray[np.float64]:
        """Σ over the channels of (Y − Ŷ)² in normalised Lab, [H, W]."""
        difference = normalised_lab(self.truth).astype(np.float64) - normalised_lab(self.prediction)
        return np.asarray(np.einsum("chw,chw->hw", difference, difference))


class Within(NamedTuple):
    """One image inside its masks, one entry per threshold (float64 [T]).

    area: share of trusted pixels, the complement of the paper's "mask size".
    error, semantic: the largest D and the largest semantic D inside; 0 for an empty mask.
    psnr, psnr_lab: in dB, of sRGB and of normalised Lab with a peak of 1; NaN for an empty mask,
        infinite where every trusted pixel is exact.
    """

    area: NDArray[np.float64]
    error: NDArray[np.float64]
    semantic: NDArray[np.float64]
    psnr: NDArray[np.float64]
    psnr_lab: NDArray[np.float64]


class Inside(NamedTuple):
    """What a prediction's masks {σ < t} hold, one entry per threshold; see `Within`."""

    thresholds: NDArray[np.float64]
    area: NDArray[np.float64]
    psnr: NDArray[np.float64]
    psnr_lab: NDArray[np.float64]

    def within(
        self, thresholds: NDArray[np.float64], color: Staircase, semantic: Staircase
    ) -> Within:
        """At some of the thresholds, with the staircases of D and of the semantic D on this σ."""
        places = np.searchsorted(self.thresholds, thresholds)
        error, label = losses_at([color, semantic], thresholds, "left")
        area, psnr, psnr_lab = (values[places] for values in self[1:])
        return Within(area, error, label, psnr, psnr_lab)


def inside(sigma: NDArray[np.float32], maps: ErrorMaps, thresholds: NDArray[np.float64]) -> Inside:
    """One pass over an image for all of its masks.

    Args:
        sigma: σ, float32 [H, W].
        maps: of the same image.
        thresholds: in rising order; −inf and inf are allowed.
    """
    # Pixel p lies in the masks from number cut(p) on: σ(p) < t_j exactly for j ≥ cut(p).
    cut = np.searchsorted(thresholds, sigma.reshape(-1), side="right")
    size = len(thresholds) + 1
    count = np.bincount(cut, minlength=size)[:-1].cumsum()

    def psnr(squared: NDArray[np.float64] | NDArray[np.int64], peak: float) -> NDArray[np.float64]:
        total = np.bincount(cut, squared.reshape(-1), size)[:-1].cumsum()
        with np.errstate(divide="ignore", invalid="ignore"):
            decibel = 10 * np.log10(peak**2 * 3 * count / total)
        return np.where(count == 0, np.nan, decibel)

    return Inside(
        thresholds, count / sigma.size, psnr(maps.squared_rgb, 255), psnr(maps.squared_lab, 1)
    )


def losses_at(
    staircases: Sequence[Staircase],
    thresholds: NDArray[np.floating],
    side: Literal["left", "right"],
) -> NDArray[np.float64]:
    """Losses of images at thresholds, [n, T]: of {σ < t} for "left", of {σ ≤ t} for "right"."""
    found = np.empty((len(staircases), len(thresholds)))
    for row, staircase in zip(found, staircases, strict=True):
        steps = np.append(np.float32(0), staircase.errors)
        row[:] = steps[np.searchsorted(staircase.levels, thresholds, side=side)]
    return found
