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
from functools import cache
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypeVar, get_args

import numpy as np
import scipy
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from trustscale_server.conformal import reader as text
from trustscale_server.conformal.reader import painted

# --- Normalised CIELAB of sRGB images, from tables and correctly rounded arithmetic only.

# Linear sRGB to CIE XYZ (IEC 61966-2-1) and the D65 white point, as in scikit-image.
_XYZ_FROM_RGB = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])

# X/Xn, Y/Yn and Z/Zn are integers of 21 bits in one 64-bit word, so that one sum serves all three.
# The unit leaves room for the rounding of the shares: no sum carries into its neighbour.
XYZ_WIDTH = 21
XYZ_FIELD = (1 << XYZ_WIDTH) - 1
XYZ_UNIT = XYZ_FIELD - 3

_LINEAR_BELOW = 0.008856  # up to this t the Lab function f(t) is a straight line

_BLOCK = 1 << 15  # pixels per block: temporaries stay in the cache

Pixels: TypeAlias = NDArray[np.uint8 | np.uint16]
"""An image of 8 or 16 bits, mostly [H, W, 3]; its largest value is white."""


class Colours(NamedTuple):
    """An image in normalised Lab, float32 [3, H, W], that several are compared with."""

    lab: NDArray[np.float32]


Seen: TypeAlias = Pixels | Colours
"""An image as pixels, [H, W, 3], or what they were looked up to be."""


class LabTables(NamedTuple):
    """The tables that colours are looked up in."""

    green_red: NDArray[np.int64]  # [65536]: share of green and red in X, Y, Z, packed
    blue: NDArray[np.int64]  # [256]: share of blue
    f: NDArray[np.float32]  # [2^21]: the Lab function f(t) at t = k / XYZ_UNIT


@cache
def lab_tables() -> LabTables:
    """Return the tables of this module."""
    red, green, blue = _shares(256)
    t = np.arange(1 << XYZ_WIDTH) / XYZ_UNIT
    f = np.where(t > _LINEAR_BELOW, np.cbrt(t), 7.787 * t + 16 / 116).astype(np.float32)
    return LabTables((green[:, None] + red).reshape(-1), blue, f)


@cache
def _shares(count: int) -> NDArray[np.int64]:
    """The shares of red, green and blue of so many levels in X, Y, Z, packed, int64 [3, count]."""
    value = np.arange(count) / (count - 1)
    linear = np.where(value > 0.04045, ((value + 0.055) / 1.055) ** 2.4, value / 12.92)
    share = (_XYZ_FROM_RGB / _WHITE[:, None])[:, :, None] * linear  # [3 XYZ, 3 RGB, count]
    x, y, z = np.rint(share * XYZ_UNIT).astype(np.int64)
    return np.asarray(x << 2 * XYZ_WIDTH | y << XYZ_WIDTH | z)


def check_rgb(rgb: Pixels) -> None:
    """Raise ValueError unless `rgb` is a non-empty [H, W, 3] image of 8 or 16 bits."""
    is_rgb = rgb.ndim == 3 and rgb.shape[2] == 3 and 0 not in rgb.shape
    if rgb.dtype not in (np.uint8, np.uint16) or not is_rgb:
        raise ValueError(
            f"expected a non-empty uint8 or uint16 [H, W, 3] image, got {rgb.dtype} {rgb.shape}"
        )


def check_pair(first: Pixels, second: Pixels) -> None:
    """Raise ValueError unless both are non-empty [H, W, 3] images of one size and depth."""
    check_rgb(first)
    check_rgb(second)
    if first.shape != second.shape:
        raise ValueError(f"{first.shape} and {second.shape} differ in size")
    if first.dtype != second.dtype:
        raise ValueError(f"{first.dtype} and {second.dtype} differ in depth")


def normalised_lab(rgb: Pixels) -> NDArray[np.float32]:
    """Return normalised Lab, float32 [3, H, W] in [0, 1], of an [H, W, 3] sRGB image."""
    check_rgb(rgb)
    height, width, _ = rgb.shape
    out = np.empty((3, height * width), np.float32)
    pixels = rgb.reshape(-1, 3)
    for start in range(0, height * width, _BLOCK):
        block = slice(start, start + _BLOCK)
        lab_block(pixels[block], out[:, block])
    return out.reshape(3, height, width)


def lab_distance(first: Pixels, second: Pixels) -> NDArray[np.float32]:
    """Return ‖u − v‖₁ per pixel in normalised Lab, float32 [H, W], of two images (`check_pair`)."""
    check_pair(first, second)
    height, width, _ = first.shape
    distance = np.empty(height * width, np.float32)
    first_pixels, second_pixels = (image.reshape(-1, 3) for image in (first, second))
    for block in pixel_blocks(height * width):
        lab, apart = np.empty((2, 3, block.stop - block.start), np.float32)
        lab_block(first_pixels[block], lab)
        lab_block(second_pixels[block], apart)
        distance[block] = l1_apart(lab, apart, out=apart)
    return distance.reshape(height, width)


def l1_apart(
    lab: NDArray[np.float32], other: NDArray[np.float32], *, out: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return ‖u − v‖₁, float32 [n], of colours, float32 [3, n] each, computed in `out`."""
    np.subtract(lab, other, out=out)
    np.abs(out, out=out)
    return channel_sum(out)


def channel_sum(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum float32 [3, n] over the channels, in their order, into the first."""
    total, second, third = planes
    total += second
    total += third
    return np.asarray(total)


def lab_block(pixels: Pixels, out: NDArray[np.float32]) -> None:
    """Compute normalised Lab of [n, 3] pixels into float32 [3, n]."""
    tables = lab_tables()
    # No index can be out of range; mode="clip" spares numpy the check.
    if pixels.dtype == np.uint16:
        red, green, blue = _shares(1 << 16)
        xyz = red.take(pixels[:, 0], mode="clip")
        xyz += green.take(pixels[:, 1], mode="clip")
        xyz += blue.take(pixels[:, 2], mode="clip")
    else:
        # As a number of two bytes, red and green are the index.
        green_red = np.ndarray(len(pixels), "<u2", np.ascontiguousarray(pixels), strides=(3,))
        xyz = tables.green_red.take(green_red.astype(np.intp), mode="clip")
        xyz += tables.blue.take(pixels[:, 2].astype(np.intp), mode="clip")
    lightness, a, b = out
    tables.f.take(xyz & XYZ_FIELD, out=b, mode="clip")
    xyz >>= XYZ_WIDTH
    tables.f.take(xyz & XYZ_FIELD, out=lightness, mode="clip")
    xyz >>= XYZ_WIDTH
    tables.f.take(xyz, out=a, mode="clip")
    a -= lightness
    a *= np.float32(500 / 254)
    a += np.float32(0.5)
    np.subtract(lightness, b, out=b)
    b *= np.float32(200 / 254)
    b += np.float32(0.5)
    lightness *= np.float32(1.16)
    lightness -= np.float32(0.16)
    np.maximum(lightness, 0, out=lightness)  # black: 1.16 · 16/116 − 0.16 rounds to −7e-9


def pixel_blocks(count: int) -> list[slice]:
    """Return slices, of a cache-sized block each at most, that cover `count` pixels."""
    return [slice(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK)]


def to_8_bit(pixels: Pixels) -> NDArray[np.uint8]:
    """Return the pixels in 8 bits, rounded if they had more."""
    if pixels.dtype == np.uint8:
        return pixels.view(np.uint8)
    return ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def to_16_bit(pixels: Pixels) -> NDArray[np.uint16]:
    """Return the pixels in 16 bits, scaled if they had fewer."""
    if pixels.dtype == np.uint16:
        return pixels.view(np.uint16)
    return pixels.astype(np.uint16) * np.uint16(257)


# --- Smoothing kernels.

Real = TypeVar("Real", np.float32, np.float64)
Kernel = Literal["box", "gaussian"]

# Outputs of a product along a line. Up to this radius it is so small, 2^18 multiplications, that
# OpenBLAS stays in its thread.
_TILE, _MOST_RADIUS = 32, 100


def smooth(
    values: NDArray[Real], kernel: Kernel, size: int, *, out: NDArray[Real] | None = None
) -> NDArray[Real]:
    """Return K * values, float [H, W], for a window K of `size` pixels.

    A Gaussian window has standard deviation size/6. The output has the dtype of the input; sums are
    made in float64. `out` may be the input itself.
    """
    if size == 1:
        return values
    if kernel == "gaussian":
        return _gaussian(values, size / 6, size // 2, out)
    smoothed = scipy.ndimage.uniform_filter(values, size, mode="reflect", output=out)
    return np.asarray(smoothed, values.dtype)


def gaussian_blur(
    values: NDArray[Real], deviation: float, *, out: NDArray[Real] | None = None
) -> NDArray[Real]:
    """Blur float [H, W] by a Gaussian, standard deviation in pixels, cut at 4 deviations.

    `out` as in `smooth`.
    """
    if deviation == 0:
        return values
    return _gaussian(values, deviation, gaussian_radius(deviation), out)


def gaussian_radius(deviation: float) -> int:
    """Return how far, in pixels, `gaussian_blur` looks."""
    return int(4 * deviation + 0.5)


def _gaussian(
    values: NDArray[Real], deviation: float, radius: int, out: NDArray[Real] | None
) -> NDArray[Real]:
    # A thin plane would be mostly padding.
    is_wide = min(values.shape) >= 2 * _TILE and 0 < radius <= _MOST_RADIUS
    if is_wide and values.dtype == np.float32 and values.min() >= 0:
        blurred = np.empty_like(values) if out is None else out
        _in_products(values, deviation, radius, blurred)
        return blurred
    blurred = scipy.ndimage.gaussian_filter(
        values, deviation, mode="reflect", radius=radius, output=out
    )
    return np.asarray(blurred, values.dtype)


def _in_products(values: NDArray[Any], deviation: float, radius: int, out: NDArray[Any]) -> None:
    """The bits of scipy's Gaussian of float32 [H, W] ≥ 0, by products of small matrices."""
    height, width = values.shape
    sides = [
        (radius, _in_tiles(_in_tiles(side) + 2 * radius) - side - radius) for side in values.shape
    ]
    padded = np.pad(values, sides, mode="symmetric")
    lines = _Lines(deviation, radius)
    window = np.empty((_TILE + 2 * radius, padded.shape[1]))
    for top in range(0, height, _TILE):
        window[:] = padded[top : top + len(window)]
        tall = lines.blurred(window.T).T
        wide = lines.blurred(tall.astype(np.float64))
        place = out[top : top + _TILE]
        place[:] = wide[: len(place), :width]


def _in_tiles(length: int) -> int:
    return length + -length % _TILE


class _Lines:
    """The bits of scipy's Gaussian of lines of numbers ≥ 0.

    A product of matrices adds the same products as scipy, in another order. As none is negative,
    the sums differ by a known share, and mostly round to the same float32; where they may not,
    scipy decides.
    """

    def __init__(self, deviation: float, radius: int) -> None:
        self._settings = {"sigma": deviation, "radius": radius}
        self._taps = np.arange(2 * radius + 1)
        reach = _TILE + 2 * radius
        impulse = np.zeros(len(self._taps))
        impulse[radius] = 1
        weights = scipy.ndimage.gaussian_filter1d(impulse, **self._settings, mode="constant")
        # Twice as many roundings as either sum has, each by at most half an epsilon.
        self._apart = 2 * (reach + 8) * np.finfo(np.float64).eps
        self._weights = np.zeros((reach, _TILE))
        for k in range(_TILE):
            self._weights[k : k + len(weights), k] = weights * (1 - self._apart)

    def blurred(self, lines: NDArray[np.float64]) -> NDArray[np.float32]:
        """Of float32 numbers as float64 [n, L], float32 [n, …] without the `radius` at the ends."""
        reach = len(self._weights)
        windows = sliding_window_view(lines, reach, axis=1)[:, ::_TILE]
        shape = len(lines) // _TILE, _TILE, windows.shape[1]
        sums = np.empty((len(lines), _TILE * windows.shape[1]))
        np.matmul(
            windows.reshape(*shape, reach).swapaxes(1, 2),
            self._weights,
            out=sums.reshape(*shape, _TILE).swapaxes(1, 2),
        )
        low = sums.astype(np.float32)
        sums *= 1 + 2 * self._apart
        doubtful = low != sums.astype(np.float32)
        if doubtful.any():
            line, place = np.nonzero(doubtful)
            around = lines[line[:, None], place[:, None] + self._taps]
            exact = scipy.ndimage.gaussian_filter1d(around, **self._settings)
            low[line, place] = exact[:, len(self._taps) // 2]
        return low


# --- D: how wrong a prediction is, per pixel, bounded by B (paper §2.3).

ErrorUnit = Literal["lab", "ssim", "stretch", "label", "words"]
LossUnit = Literal["spot", "picture", "words"]
Error: TypeAlias = "Callable[[Pixels, Pixels, FidelitySettings], NDArray[np.float32]]"
OfDistance: TypeAlias = "Callable[[NDArray[np.float32], FidelitySettings], NDArray[np.float32]]"

# The largest ‖u − v‖₁ of two sRGB colours in normalised Lab, 1.9575660174 between pure green and
# pure blue, rounded up. The paper uses 3, the trivial bound.
LAB_BOUND = 1.9576

SPOT: Final = 128
"""Side in pixels of the windows of an output that losses are about by default."""

# Keeps sums of losses in fixed point within 64 bits.
MOST_BOUND = 1000.0

_SSIM_BLUR, _SSIM_WINDOW = 1.5, 11


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One row of `METRICS`.

    error: D of a truth and a prediction, [H, W, 3] each, as a new float32 [H, W] ≥ 0; None: people
    draw it.
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
    reads: whether a text reader finds words, of whose shares losses are.
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
    of_distance: OfDistance | None = None
    error_unit: ErrorUnit = "lab"
    blurs: bool = False
    bounds_psnr: bool = False
    loss_clipped_at: float | None = None
    reads: bool = False
    right: str = "nothing in the trusted part differs in meaning"
    void_if: tuple[str, ...] = ()

    @property
    def needs_label(self) -> bool:
        """Whether people draw D."""
        return self.error is None


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


def misread(truth: Pixels, prediction: Pixels, settings: FidelitySettings) -> NDArray[np.float32]:
    """Return 1 inside words of the prediction that the truth shows otherwise, else 0.

    What a calibration counts is the share of such words instead (`words.py`).
    """
    del settings
    lines = text.read_lines(to_8_bit(prediction))
    wrong = text.read_otherwise(lines, to_8_bit(truth))
    words = (word for line in lines for word in line.words)
    boxes = [(word.corners, float(is_wrong)) for word, is_wrong in zip(words, wrong, strict=True)]
    return painted(boxes, truth.shape[:2], 0.0)


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
        error=misread,
        bound=1.0,
        clause="share of wrong words among those whose box lies in the mask (wrong: the {reader}, "
        "a program and not a person, reads otherwise in the same place of the truth)",
        summary="words that a text reader (a program, not a person) reads otherwise in the truth",
        title="Text, words that read otherwise",
        radius=lambda _: None,
        # The reader's networks, which look at 2,000 pixels a side at most.
        bytes_per_pixel=150,
        error_unit="words",
        reads=True,
        void_if=("taking it for a promise about text in which the reader finds no word",),
    ),
}


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
    reader: text.ReaderSettings | None = None
    unit: LossUnit = "spot"
    spot: int = SPOT

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ValueError(f"metric must be one of {tuple(METRICS)}")
        if self.row.reads:
            object.__setattr__(self, "reader", self.reader or text.ReaderSettings())
            object.__setattr__(self, "unit", "words")
        elif self.reader is not None:
            raise ValueError("the settings of a reader belong to the metric text")
        if not 0 <= self.blur <= 256:
            raise ValueError("blur must be between 0 and 256 pixels")
        is_known = self.unit in get_args(LossUnit) and 32 <= self.spot <= 4096
        if not is_known or (self.unit == "words") != self.row.reads:
            raise ValueError(
                "a promise is about a spot of 32 to 4096 pixels, about the picture, or about the "
                "words of the metric text"
            )
        if self.bound is None:
            object.__setattr__(self, "bound", self.row.bound)
        # Below the least float32 no error could be counted.
        elif not (0 < self.bound <= MOST_BOUND and largest_float32(self.bound) > 0):
            raise ValueError(f"bound must be a positive number of at most {MOST_BOUND:g}")

    @property
    def row(self) -> Metric:
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
        return self.row.clause.format(blur=self.blur, reader=title)

    @property
    def missing(self) -> str | None:
        """What to install before an error can be measured, if anything."""
        return None if self.reader is None else self.reader.missing


def bound(settings: FidelitySettings | None = None) -> float:
    """B, the largest value of `error` under these settings."""
    value = (settings or FidelitySettings()).bound
    assert value is not None  # noqa: S101 - __post_init__ fills it
    return value


def clips(settings: FidelitySettings) -> bool:
    """Return whether the chosen bound is below the metric's own, so that D is cut."""
    return bound(settings) < settings.row.bound


def error(
    truth_rgb: Pixels,
    prediction_rgb: Pixels,
    settings: FidelitySettings | None = None,
    *,
    label: NDArray[Any] | None = None,
    distance: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """D, float32 [H, W] in [0, B], of two [H, W, 3] images of 8 or 16 bits; cut at B.

    `label`, where people label (`Metric.needs_label`): [H, W], non-zero where the meaning differs.
    `distance`: ‖Y − Ŷ‖₁ in normalised Lab, float32 [H, W], where it is known.

    Raises:
        ValueError: shapes or dtypes do not match, or the label is missing or not wanted.
    """
    settings = settings or FidelitySettings()
    check_pair(truth_rgb, prediction_rgb)
    measure = settings.row.error
    if (measure is None) != (label is not None):
        raise ValueError("a label belongs to a metric of people, and only to it")
    if measure is None:
        return semantic(np.asarray(label), truth_rgb.shape[:2], bound(settings))
    if distance is not None and settings.row.of_distance is not None:
        measured = settings.row.of_distance(distance, settings)
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


def largest_float32(value: float) -> np.float32:
    """Return the largest float32 that does not exceed `value`."""
    nearest = np.float32(value)
    return nearest if float(nearest) <= value else np.nextafter(nearest, np.float32(-np.inf))
