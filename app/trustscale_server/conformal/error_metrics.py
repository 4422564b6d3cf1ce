"""The metrics of D, how wrong a prediction is at each pixel (paper §2.3), and the colours it is of.

To add one, write a function of the truth and the prediction and enter its row in `METRICS`, which
forms, commands, checks and answers read.

**Colours** are normalised CIELAB of sRGB images, from tables and correctly rounded arithmetic only.
Normalised Lab is (L/100, a/254 + ½, b/254 + ½) for illuminant D65, 2° observer, as in the paper's
experiments: all in [0, 1].

Every step is a table look-up, an integer sum or one correctly rounded float32 operation, so the
same pixel gives the same bits anywhere in an image, in any block, on any machine: σ does not depend
on the order of the samples, and a calibration is portable. The result is within 1.9e-5 of the
float64 formula for all 2^24 colours of 8 bits.

**Smoothing kernels** K are non-negative, of sum 1, with reflected borders. So a smoothed value
stays in the range of its sources, and the bound B of an error survives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trustscale_server.pixels.filters import gaussian_blur
from trustscale_server.pixels.lab import Pixels, lab_distance, normalised_lab

ErrorUnit = Literal["lab", "ssim", "stretch", "label", "words"]

# The largest ‖u − v‖₁ of two sRGB colours in normalised Lab, 1.9575660174 between pure green and
# pure blue, rounded up. The paper uses 3, the trivial bound.
LAB_BOUND = 1.9576


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One row of `METRICS`.

    error: D of a truth and a prediction, [H, W, 3] each, and the blur, as a new float32 [H, W] ≥ 0;
    None: a label says it, which people draw, or a text reader (`things/reading.py`).
    bound: the least B that is known to hold.
    clause: D at a pixel in the statement of a guarantee; it may hold `{blur}` and `{reader}`.
    summary: the same in a few words.
    title: how a form offers it.
    bytes_per_pixel: what `error` allocates at most, without the images.
    of_distance: `error` from ‖Y − Ŷ‖₁ in normalised Lab, float32 [H, W], and the blur, perhaps the
    array that it is given; None: that does not suffice.
    error_unit: L1 distance in normalised Lab, distance by SSIM, share of the stretch, 1 where a
    label marks the pixel, or a share of words.
    blurs: whether `blur` changes D.
    loss_clipped_at: c, what calibrations count errors up to by default; None: B.
    bounds_psnr: whether `risk_curve.lab_psnr_lower_bound_db` applies.
    is_for_text: whether losses are shares of the words that a text reader finds.
    right: what is promised, where labels mark the pixels.
    void_if: readings of the promise that have no foundation.
    """

    error: Callable[[Pixels, Pixels, float], NDArray[np.float32]] | None
    bound: float
    clause: str
    summary: str
    title: str
    bytes_per_pixel: int
    of_distance: Callable[[NDArray[np.float32], float], NDArray[np.float32]] | None = None
    error_unit: ErrorUnit = "lab"
    blurs: bool = False
    bounds_psnr: bool = False
    loss_clipped_at: float | None = None
    is_for_text: bool = False
    right: str = "nothing in the trusted part differs in meaning"
    void_if: tuple[str, ...] = ()

    @property
    def needs_label(self) -> bool:
        """Whether people draw D."""
        return self.error is None and not self.is_for_text


def neighborhood(truth: Pixels, prediction: Pixels, blur: float) -> NDArray[np.float32]:
    """Return K * ‖Y − Ŷ‖₁, the mean error of a neighbourhood as in the authors' experiments."""
    distance = lab_distance(truth, prediction)
    return gaussian_blur(distance, blur, out=distance)


def neighborhood_difference(truth: Pixels, prediction: Pixels, blur: float) -> NDArray[np.float32]:
    """Return ‖Y * K − Ŷ * K‖₁, the paper's formula: errors that cancel in a neighbourhood vanish.

    At most `neighborhood`, by the triangle inequality.
    """
    blurred = np.subtract(normalised_lab(truth), normalised_lab(prediction))
    for channel in blurred:
        channel[...] = gaussian_blur(channel, blur)
    np.abs(blurred, out=blurred)
    return np.asarray(blurred.sum(axis=0, dtype=np.float32))


def structure(truth: Pixels, prediction: Pixels) -> NDArray[np.float32]:
    """Return (1 − SSIM)/2 of the lightness in 11 × 11 pixels around each (Wang et al. 2004).

    Smaller images are reflected up to that size.
    """
    from skimage import metrics  # noqa: PLC0415 - slow to import

    similarity_of: Any = metrics.structural_similarity  # it has no types
    height, width = truth.shape[:2]
    sides = [(0, max(0, 11 - side)) for side in (height, width)]
    lightness = [
        np.pad(normalised_lab(image)[0], sides, mode="symmetric") for image in (truth, prediction)
    ]
    _, similarity = similarity_of(
        *lightness,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    distance = similarity[:height, :width].astype(np.float32)
    np.subtract(1, distance, out=distance)
    distance /= 2
    return np.asarray(distance)


def intensity(truth: Pixels, prediction: Pixels, blur: float) -> NDArray[np.float32]:
    """Return K * |Y − Ŷ|, the mean over the channels, where the whole range counts 1."""
    apart = np.zeros(truth.shape[:2], np.float32)
    for channel in range(3):
        difference = truth[..., channel].astype(np.float32)
        difference -= prediction[..., channel].astype(np.float32)
        np.abs(difference, out=difference)
        apart += difference
    apart /= 3 * np.iinfo(truth.dtype).max
    return gaussian_blur(apart, blur)


METRICS: dict[str, Metric] = {
    "neighborhood": Metric(
        error=neighborhood,
        bound=LAB_BOUND,
        clause="mean colour difference around a pixel (L1 in normalised CIELAB, Gaussian "
        "neighbourhood of {blur:g} px)",
        summary="mean colour error around a pixel",
        title="Colour, mean error around each pixel (recommended)",
        bytes_per_pixel=10,
        of_distance=gaussian_blur,
        blurs=True,
        loss_clipped_at=0.25,
    ),
    "neighborhood_difference": Metric(
        error=neighborhood_difference,
        bound=LAB_BOUND,
        clause="difference of the blurred colours at a pixel (L1 in normalised CIELAB, Gaussian "
        "blur of {blur:g} px)",
        summary="colour error of local means",
        title="Colour, difference of local means (the paper's formula)",
        bytes_per_pixel=40,
        blurs=True,
        loss_clipped_at=0.25,
    ),
    "pointwise": Metric(
        error=lambda truth, prediction, _: lab_distance(truth, prediction),
        bound=LAB_BOUND,
        clause="colour difference of a pixel (L1 in normalised CIELAB)",
        summary="colour error of a pixel",
        title="Colour at the pixel itself (gives a PSNR bound)",
        bytes_per_pixel=8,
        of_distance=lambda distance, _: distance,
        bounds_psnr=True,
        loss_clipped_at=0.5,
    ),
    "structure": Metric(
        error=lambda truth, prediction, _: structure(truth, prediction),
        bound=1.0,
        clause="distance of the structures around a pixel ((1 − SSIM)/2 of the lightness)",
        summary="difference in structure around a pixel",
        title="Structure, where texture was repainted (SSIM)",
        bytes_per_pixel=80,
        error_unit="ssim",
    ),
    "intensity": Metric(
        error=intensity,
        bound=1.0,
        clause="mean error around a pixel (share of the stretch, mean of the channels, Gaussian "
        "neighbourhood of {blur:g} px)",
        summary="mean error around a pixel, as a share of the stretch",
        title="Intensity, mean error around each pixel (data that are no sRGB)",
        bytes_per_pixel=20,
        error_unit="stretch",
        blurs=True,
        loss_clipped_at=0.25,
    ),
    "semantic": Metric(
        error=None,
        bound=1.0,
        clause="semantic error of a pixel (1 where the meaning differs)",
        summary="difference in meaning",
        title="Meaning, marked by people",
        bytes_per_pixel=8,
        error_unit="label",
    ),
    "text": Metric(
        error=None,
        bound=1.0,
        clause="share of wrong words among those whose box lies in the mask (wrong: the {reader}, "
        "a program and not a person, reads otherwise in the same place of the truth)",
        summary="words that a text reader (a program, not a person) reads otherwise in the truth",
        title="Text, words that read otherwise",
        # The reader's networks, which look at 2,000 pixels a side at most.
        bytes_per_pixel=150,
        error_unit="words",
        is_for_text=True,
        void_if=("taking it for a promise about text in which the reader finds no word",),
    ),
}
