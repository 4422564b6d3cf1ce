"""D: how wrong a prediction is, per pixel, bounded by B (paper §2.3), and the colours it is of.

To add a metric, write a function of the truth and the prediction and enter its row in `METRICS`,
which forms, commands, checks and answers read.

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
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from trustscale_server.pixels.filters import gaussian_blur, gaussian_radius, largest_float32
from trustscale_server.pixels.lab import Pixels, check_pair, lab_distance, normalised_lab

ErrorUnit = Literal["lab", "ssim", "stretch", "label", "words"]
LossUnit = Literal["spot", "picture", "words"]
Error: TypeAlias = "Callable[[Pixels, Pixels, FidelitySettings], NDArray[np.float32]]"
_OfDistance: TypeAlias = "Callable[[NDArray[np.float32], FidelitySettings], NDArray[np.float32]]"

# The largest ‖u − v‖₁ of two sRGB colours in normalised Lab, 1.9575660174 between pure green and
# pure blue, rounded up. The paper uses 3, the trivial bound.
LAB_BOUND = 1.9576

SPOT: Final = 128
"""Side in pixels of the windows of an output that losses are about by default."""

# Keeps sums of losses in fixed point within 64 bits.
_MAX_BOUND = 1000.0

_SSIM_BLUR, _SSIM_WINDOW = 1.5, 11


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One row of `METRICS`.

    error: D of a truth and a prediction, [H, W, 3] each, as a new float32 [H, W] ≥ 0; None: it is
    told by a label, which people draw, or a text reader (`things/reading.py`).
    bound: the least B that is known to hold.
    clause: D at a pixel in the statement of a guarantee; it may hold `{blur}` and `{reader}`.
    summary: the same in a few words.
    title: how a form offers it.
    radius: how far along either axis D of a pixel depends on other pixels; None: unknown.
    bytes_per_pixel: what `error` allocates at most, without the images.
    of_distance: `error` from ‖Y − Ŷ‖₁ in normalised Lab, float32 [H, W], which may be the answer;
    None: that does not suffice.
    error_unit: L1 distance in normalised Lab, distance by SSIM, share of the stretch, 1 where a
    label marks the pixel, or a share of words.
    blurs: whether `blur` changes D.
    loss_clipped_at: c, what calibrations count errors up to by default; None: B.
    bounds_psnr: whether `curve.lab_psnr_lower_bound_db` applies.
    is_for_text: whether a text reader finds words, of whose shares losses are.
    right: what is promised, where labels mark the pixels.
    void_if: readings of the promise that have no foundation.
    """

    error: Error | None
    bound: float
    clause: str
    summary: str
    title: str
    radius: Callable[[FidelitySettings], int | None]
    bytes_per_pixel: int
    of_distance: _OfDistance | None = None
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


def pointwise(truth: Pixels, prediction: Pixels, settings: FidelitySettings) -> NDArray[np.float32]:
    """Return ‖Y − Ŷ‖₁ per pixel in normalised Lab."""
    del settings
    return lab_distance(truth, prediction)


def neighborhood(
    truth: Pixels, prediction: Pixels, settings: FidelitySettings
) -> NDArray[np.float32]:
    """Return K * ‖Y − Ŷ‖₁, the mean error of a neighbourhood as in the authors' experiments."""
    distance = lab_distance(truth, prediction)
    return gaussian_blur(distance, settings.blur, out=distance)


def neighborhood_difference(
    truth: Pixels, prediction: Pixels, settings: FidelitySettings
) -> NDArray[np.float32]:
    """Return ‖Y * K − Ŷ * K‖₁, the paper's formula: errors that cancel in a neighbourhood vanish.

    At most `neighborhood`, by the triangle inequality.
    """
    blurred = np.subtract(normalised_lab(truth), normalised_lab(prediction))
    for channel in blurred:
        channel[...] = gaussian_blur(channel, settings.blur)
    np.abs(blurred, out=blurred)
    return np.asarray(blurred.sum(axis=0, dtype=np.float32))


def structure(truth: Pixels, prediction: Pixels, settings: FidelitySettings) -> NDArray[np.float32]:
    """Return (1 − SSIM)/2 of the lightness around each pixel (Wang et al. 2004).

    Smaller images are reflected up to the window's size.
    """
    # Slow to import.
    from skimage import metrics  # noqa: PLC0415

    del settings
    similarity_of: Any = metrics.structural_similarity  # it has no types
    height, width = truth.shape[:2]
    sides = [(0, max(0, _SSIM_WINDOW - side)) for side in (height, width)]
    lightness = [
        np.pad(normalised_lab(image)[0], sides, mode="symmetric") for image in (truth, prediction)
    ]
    _, similarity = similarity_of(
        *lightness,
        data_range=1.0,
        gaussian_weights=True,
        sigma=_SSIM_BLUR,
        use_sample_covariance=False,
        full=True,
    )
    distance = similarity[:height, :width].astype(np.float32)
    np.subtract(1, distance, out=distance)
    distance /= 2
    return np.asarray(distance)


def intensity(truth: Pixels, prediction: Pixels, settings: FidelitySettings) -> NDArray[np.float32]:
    """Return K * |Y − Ŷ|, the mean over the channels, where the whole range counts 1."""
    apart = np.zeros(truth.shape[:2], np.float32)
    for channel in range(3):
        difference = truth[..., channel].astype(np.float32)
        difference -= prediction[..., channel].astype(np.float32)
        np.abs(difference, out=difference)
        apart += difference
    apart /= 3 * np.iinfo(truth.dtype).max
    return gaussian_blur(apart, settings.blur)


METRICS: dict[str, Metric] = {
    "neighborhood": Metric(
        error=neighborhood,
        bound=LAB_BOUND,
        clause="mean colour difference around a pixel (L1 in normalised CIELAB, Gaussian "
        "neighbourhood of {blur:g} px)",
        summary="mean colour error around a pixel",
        title="Colour, mean error around each pixel (recommended)",
        radius=lambda settings: gaussian_radius(settings.blur),
        bytes_per_pixel=10,
        of_distance=lambda distance, settings: gaussian_blur(distance, settings.blur),
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
        radius=lambda settings: gaussian_radius(settings.blur),
        bytes_per_pixel=40,
        blurs=True,
        loss_clipped_at=0.25,
    ),
    "pointwise": Metric(
        error=pointwise,
        bound=LAB_BOUND,
        clause="colour difference of a pixel (L1 in normalised CIELAB)",
        summary="colour error of a pixel",
        title="Colour at the pixel itself (gives a PSNR bound)",
        radius=lambda _: 0,
        bytes_per_pixel=8,
        of_distance=lambda distance, _: distance,
        bounds_psnr=True,
        loss_clipped_at=0.5,
    ),
    "structure": Metric(
        error=structure,
        bound=1.0,
        clause="distance of the structures around a pixel ((1 − SSIM)/2 of the lightness)",
        summary="difference in structure around a pixel",
        title="Structure, where texture was repainted (SSIM)",
        radius=lambda _: _SSIM_WINDOW // 2,
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
        radius=lambda settings: gaussian_radius(settings.blur),
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
        radius=lambda _: None,
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
        radius=lambda _: None,
        # The reader's networks, which look at 2,000 pixels a side at most.
        bytes_per_pixel=150,
        error_unit="words",
        is_for_text=True,
        void_if=("taking it for a promise about text in which the reader finds no word",),
    ),
}


@dataclass(frozen=True, slots=True)
class ReaderSettings:
    """The text reader that judges words, as a calibration records it.

    version: of the reader and its models, since another one reads differently; the extra `text`
    pins it. compares: letters, digits, and what stands before a digit.
    """

    name: Literal["rapidocr"] = "rapidocr"
    version: str = "3.10.0"
    compares: Literal["numbers"] = "numbers"

    def __post_init__(self) -> None:
        if self.name != "rapidocr":
            raise ValueError(f"no text reader {self.name!r}")

    @property
    def title(self) -> str:
        """How answers and reports call it."""
        return f"text reader {self.name} version {self.version}"


@dataclass(frozen=True, slots=True)
class FidelitySettings:
    """How the error is measured.

    metric: a name in `METRICS`.
    blur: standard deviation in pixels of the neighbourhood's Gaussian K.
    bound: B; None: that of the metric. A smaller one clips D, and the guarantee is then about the
    clipped error; a larger one (the paper's 3) is allowed.
    reader: the text reader's settings for the metric `text`; None: its defaults, or another metric.
    unit: what loses: a `spot` of the output, `spot` pixels wide and high, the whole `picture`, or
    of the metric `text` its `words`.
    """

    metric: str = "neighborhood"
    blur: float = 4.0
    bound: float | None = None
    reader: ReaderSettings | None = None
    unit: LossUnit = "spot"
    spot: int = SPOT

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ValueError(f"metric must be one of {tuple(METRICS)}")
        if self.spec.is_for_text:
            object.__setattr__(self, "reader", self.reader or ReaderSettings())
            object.__setattr__(self, "unit", "words")
        elif self.reader is not None:
            raise ValueError("the settings of a reader belong to the metric text")
        if not 0 <= self.blur <= 256:
            raise ValueError("blur must be between 0 and 256 pixels")
        is_known = self.unit in get_args(LossUnit) and 32 <= self.spot <= 4096
        if not is_known or (self.unit == "words") != self.spec.is_for_text:
            raise ValueError(
                "a promise is about a spot of 32 to 4096 pixels, about the picture, or about the "
                "words of the metric text"
            )
        if self.bound is None:
            object.__setattr__(self, "bound", self.spec.bound)
        # Below the least float32 no error could be counted.
        elif not (0 < self.bound <= _MAX_BOUND and largest_float32(self.bound) > 0):
            raise ValueError(f"bound must be a positive number of at most {_MAX_BOUND:g}")

    @property
    def spec(self) -> Metric:
        """The metric's row."""
        return METRICS[self.metric]

    def windows(self, height: int, width: int) -> list[tuple[slice, slice]]:
        """Return the windows of an output whose losses count."""
        if self.unit != "spot":
            return [(slice(0, height), slice(0, width))]
        return spots(height, width, self.spot)

    @property
    def clause(self) -> str:
        """D at a pixel in the statement of a guarantee, under these settings."""
        title = self.reader and self.reader.title
        return self.spec.clause.format(blur=self.blur, reader=title)


def bound(settings: FidelitySettings | None = None) -> float:
    """B, the largest value of `error` under these settings."""
    value = (settings or FidelitySettings()).bound
    assert value is not None  # noqa: S101 - __post_init__ fills it
    return value


def clips(settings: FidelitySettings) -> bool:
    """Return whether the chosen bound is below the metric's own, so that D is cut."""
    return bound(settings) < settings.spec.bound


def error(
    truth_rgb: Pixels,
    prediction_rgb: Pixels,
    settings: FidelitySettings | None = None,
    *,
    label: NDArray[Any] | None = None,
    distance: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """D, float32 [H, W] in [0, B], of two [H, W, 3] images of 8 or 16 bits; cut at B.

    `label`, where the metric measures nothing itself (`Metric.error`): [H, W], non-zero where the
    meaning differs.
    `distance`: ‖Y − Ŷ‖₁ in normalised Lab, float32 [H, W], where it is known.

    Raises:
        ValueError: shapes or dtypes do not match, or the label is missing or not wanted.
    """
    settings = settings or FidelitySettings()
    check_pair(truth_rgb, prediction_rgb)
    measure = settings.spec.error
    if (measure is None) != (label is not None):
        raise ValueError("a label belongs to a metric that does not measure, and only to it")
    if measure is None:
        return semantic(np.asarray(label), truth_rgb.shape[:2], bound(settings))
    if distance is not None and settings.spec.of_distance is not None:
        measured = settings.spec.of_distance(distance, settings)
    else:
        measured = measure(truth_rgb, prediction_rgb, settings)
    place = None if measured is distance else measured
    return np.clip(measured, 0, largest_float32(bound(settings)), out=place)


def semantic(
    label: NDArray[Any], shape: tuple[int, ...], limit: float = 1.0
) -> NDArray[np.float32]:
    """Return the semantic D: 1 where the label says the meaning differs, else 0 (paper §2.3).

    Raises:
        ValueError: the label does not have the shape [H, W] of the images.
    """
    if label.shape != shape:
        raise ValueError(f"the label has the shape {label.shape}, the images have {shape}")
    return np.where(label != 0, largest_float32(min(1.0, limit)), np.float32(0))


def spots(height: int, width: int, side: int = SPOT) -> list[tuple[slice, slice]]:
    """Return the windows of an output whose losses count: as few as cover it, evenly spread.

    Of a side that is no multiple of `side` neighbours overlap; a shorter one is a window's whole.
    """

    def along(length: int) -> list[slice]:
        count = -(-length // side)
        room = max(0, length - side)
        starts = [round(room * k / max(1, count - 1)) for k in range(count)]
        return [slice(start, min(start + side, length)) for start in starts]

    return [(rows, columns) for rows in along(height) for columns in along(width)]
