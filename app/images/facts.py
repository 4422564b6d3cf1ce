"""What is known of an input before any generation, and the class that follows.

The same code runs on calibration inputs and on uploads. A class is a function of the upload alone,
so the curve of a class holds for its uploads (Mondrian calibration). The rule is part of the
pipeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trustscale_server.conformal.lab import Pixels, shallow
from trustscale_server.images.compression import (
    LOSSLESS,
    Compression,
    Look,
    class_of,
    is_clear,
    worst_of,
)
from trustscale_server.images.resampling import trace

UPLOAD: Final = "upload/4"
"""Classes by an upload's strongest compression and its look; a new number may change classes."""

BANDS: Final = "bands/1"
"""Classes of data that were stretched: of one channel, or of three that differ."""

TRACE: Final = 3.75
"""From here on the trace is that of an enlargement; of 1.2 % of sharp pictures, too. Changes σ."""

RULES: Final = (UPLOAD, BANDS)
"""The available rules; another version of one is another rule."""

_USUAL_QUALITY: Final = 50  # of a file that does not declare it
_LEAST_ENERGY = 0.05  # of differences, as rounding to 8 bits leaves
_ROUGH = 1.2  # about what noise of 3 grey levels leaves
_MOST_SIDE = 512  # of the part in the middle that is measured


class _Measure(NamedTuple):
    """A look as a linear function of levels: `energies`, then the facts noise and detail.

    Fitted to photographs by least squares (`benchmarks/looks.py`; figures in docs/promise.md), blur
    by logistic regression (docs/mask-power.md). Missing weights are 0. begins: where it begins.
    """

    constant: float
    weights: tuple[float, ...]
    begins: float = 0.0

    def of(self, levels: Sequence[float]) -> float:
        """The measure of the look."""
        return float(self.constant + np.dot(self.weights, levels[: len(self.weights)]))


class _Looks(NamedTuple):
    """How looks are measured.

    soft: log₂ of the factor of an enlargement. blurred: among sharp pictures, those that were a
    little; it changes σ, too. bilinear: among soft pictures. denoised: among smoothed ones, those
    that were not sharpened.
    """

    soft: _Measure
    blurred: _Measure
    bilinear: _Measure
    smoothed: _Measure
    denoised: _Measure


_CLEAN: Final = _Looks(
    soft=_Measure(1.540, (0.679, -0.335, -0.382), begins=0.25),
    blurred=_Measure(50.82, (-0.008, 0.921, -9.154, 0.678, -9.71, 10.055, 6.355)),
    bilinear=_Measure(-13.652, (-10.606, 9.623, 3.103, -2.488, -1.226, 1.233, 0.319)),
    smoothed=_Measure(-4.170, (-0.848, 0.404, -0.070, 1.426, 0.618, -0.603, -0.982), begins=0.1),
    denoised=_Measure(-2.236, (-9.641, 7.365, -1.067, 3.325, -1.532, 1.311, 0.139)),
)
_SOFT_AFTER_LOSS: Final = _Measure(1.731, (0.533, -0.152, -0.447), begins=0.45)

_LOSSY: Final = _Looks(
    soft=_SOFT_AFTER_LOSS,
    blurred=_SOFT_AFTER_LOSS._replace(begins=0.35),
    bilinear=_Measure(-21.940, (-17.457, 15.234, 4.066, -1.537, -1.447, 0.844, 0.306)),
    smoothed=_Measure(-5.659, (-1.970, 1.041, 0.229, 1.679, 0.661, -0.521, -1.273), begins=0.3),
    denoised=_Measure(-3.388, (-10.992, 8.234, -1.42, 4.142, -1.167, 1.051, 0.065)),
)
# Among rough ones: noise of 4 to 8 grey levels against detail, and noise of at most 2.
_NOISY: Final = _Measure(6.279, (2.661, -0.374, -2.218, 0.838, 2.379, -4.001, 0.394, 3.183, -2.734))


@dataclass(frozen=True, slots=True)
class InputFeatures:
    """Of X, an upload.

    compression: the strongest that file and pixels show.
    softness: log₂ of the factor by which it was probably enlarged; 0: none.
    detail: mean of log(1 + |∇|) of the luma in grey levels.
    noise: log of the median of the diagonal second difference, which structure hardly changes.
    contrast: log of the standard deviation of the luma; light: its mean, 0 to 1.
    colour: log of the mean range of the three channels.
    bilinear, smoothed, denoised: above 0 with this look, where it can be told. noisy: above 0 where
        roughness is noise rather than detail.
    blurred: above 0 where it was probably blurred a little, although it looks sharp.
    trace: of an earlier enlargement (`resampling.py`); looked for in lossless uploads.
    """

    compression: Compression
    detail: float
    noise: float
    contrast: float
    light: float
    colour: float
    softness: float
    bilinear: float = -1.0
    smoothed: float = -1.0
    denoised: float = -1.0
    noisy: float = -1.0
    blurred: float = -1.0
    trace: float = 0.0

    @property
    def look(self) -> Look:
        """The first look that applies."""
        is_told = is_clear(self.compression)
        if is_told and self.smoothed >= 0:
            return "denoised" if self.denoised >= 0 else "smoothed"
        if self.softness >= _looks(self.compression).soft.begins:
            return "bilinear" if is_told and self.bilinear >= 0 else "soft"
        if self.noise < _ROUGH:
            return "sharp"
        return "rough" if self.noisy >= 0 else "fine"

    @property
    def is_nearly_soft(self) -> bool:
        """Whether it passes as sharp, and was probably blurred or enlarged a little."""
        is_sharp = self.look in {"sharp", "fine", "rough"}
        return is_sharp and (self.blurred >= 0 or self.trace >= TRACE)

    def terms(self) -> dict[str, float]:
        """The facts for a fitted σ; a change of one raises `TRUST_LAYER_VERSION`.

        loss: 0 (lossless) to 1. lossy, jpeg: 1 if so, else 0. The others as above, rounded, since
        sums on other machines may differ in their last bits.
        """
        codec, quality = self.compression
        is_lossy = codec != "lossless"
        return {
            "loss": 1 - (_USUAL_QUALITY if quality is None else quality) / 100 if is_lossy else 0.0,
            "lossy": float(is_lossy),
            "jpeg": float(codec == "jpeg"),
            "softness": round(self.softness, 3),
            "noise": round(self.noise, 3),
            "detail": round(self.detail, 3),
        }

    def numbers(self) -> dict[str, float]:
        """Numbers compared with other pictures: all but the compression and the looks."""
        return {name: value for name, value in asdict(self).items() if name not in _NOT_COMPARED}


_NOT_COMPARED: Final = {
    *("compression", "bilinear", "smoothed", "denoised", "noisy", "blurred", "trace")
}


def look_at(picture: Pixels, compression: Compression) -> InputFeatures:
    """The facts of X, [h, w, 3], given what its file says of its compression."""
    rgb = shallow(picture)
    height, width = rgb.shape[:2]
    # A multiple of 8 from the corner keeps a grid of blocks in place.
    top, left = (max(0, (side - _MOST_SIDE) // 2) // 8 * 8 for side in (height, width))
    pixels = rgb[top : top + _MOST_SIDE, left : left + _MOST_SIDE]
    with ThreadPoolExecutor(1, "trustscale-look") as beside:
        worst = beside.submit(worst_of, compression, pixels)
        luma = np.asarray(pixels @ np.array([0.299, 0.587, 0.114], np.float32), np.float32)
        padded = np.pad(luma, ((0, 1), (0, 1)), mode="edge")
        right = np.diff(padded, axis=1)
        across, down = right[:-1], np.diff(padded, axis=0)[:, :-1]
        diagonal = np.abs(np.diff(right, axis=0)) / 2
        red, green, blue = np.moveaxis(pixels, 2, 0)  # a reduction over three of them is slow
        highest = np.maximum(np.maximum(red, green), blue).astype(np.int16)
        channels = highest - np.minimum(np.minimum(red, green), blue)
        detail = float(np.log1p(np.abs(across) + np.abs(down)).mean())
        noise = float(np.log(_median(diagonal) / 0.6745 + 0.25))
        levels = (*energies(luma), noise, detail)
        compression = worst.result()
    looks = _looks(compression)
    return InputFeatures(
        compression,
        detail=detail,
        noise=noise,
        contrast=float(np.log1p(luma.std())),
        light=float(luma.mean() / 255),
        colour=float(np.log1p(channels.mean())),
        softness=looks.soft.of(levels),
        bilinear=looks.bilinear.of(levels) - looks.bilinear.begins,
        smoothed=looks.smoothed.of(levels) - looks.smoothed.begins,
        denoised=looks.denoised.of(levels) - looks.denoised.begins,
        noisy=_NOISY.of(levels),
        blurred=round(looks.blurred.of(levels) - looks.blurred.begins, 3),
        trace=trace(luma) if compression == LOSSLESS else 0.0,
    )


def _median(values: NDArray[np.floating[Any]]) -> np.floating[Any]:
    """numpy's, in a ninth of its time: a partition at several places is slow."""
    half = values.size // 2
    parted = np.partition(values, half, axis=None)
    middle = parted[half : half + 1] if values.size % 2 else [parted[:half].max(), parted[half]]
    return np.mean(np.array(middle, values.dtype))


def _looks(compression: Compression) -> _Looks:
    return _CLEAN if compression == LOSSLESS else _LOSSY


def energies(luma: NDArray[np.float32]) -> tuple[float, ...]:
    """Levels of the luma, float32 [h, w], in grey levels, for the looks.

    Logarithms of mean squares, across and down together, of differences: between neighbours, over
    two pixels, of the fourth and second order, of the second and of the first order across and
    down at once; and of the distance from both neighbours, which a median removes.
    """

    def level(*differences: NDArray[np.float32]) -> float:
        means = [np.square(d).mean(dtype=np.float64) if d.size else 0.0 for d in differences]
        return float(np.log(np.mean(means) + _LEAST_ENERGY))

    return (
        level(np.diff(luma, axis=0), np.diff(luma, axis=1)),
        level(luma[2:] - luma[:-2], luma[:, 2:] - luma[:, :-2]),
        level(np.diff(luma, 4, axis=0), np.diff(luma, 4, axis=1)),
        level(np.diff(luma, 2, axis=0), np.diff(luma, 2, axis=1)),
        level(np.diff(np.diff(luma, 2, axis=1), 2, axis=0)),
        level(np.diff(np.diff(luma, axis=1), axis=0)),
        level(_standing_out(luma), _standing_out(luma.T)),
    )


def _standing_out(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far each pixel is above or below both vertical neighbours, float32 [h - 2, w]."""
    above, middle, below = luma[:-2], luma[1:-1], luma[2:]
    return middle - np.clip(middle, np.minimum(above, below), np.maximum(above, below))


def classify(rule: str, facts: InputFeatures) -> str:
    """The class of an upload, such as `soft/jpeg-80`. Raises ValueError: not one of `RULES`."""
    if rule not in RULES:
        raise ValueError(f"the rule must be one of {RULES}, got {rule!r}")
    if rule == BANDS:
        return "colour" if facts.colour else "grey"
    return class_of(facts.compression, facts.look)
