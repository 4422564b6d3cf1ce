"""What an upload is: its traces of compression, their description, its kind and class.

**The class** follows from what is known of an input before any generation. The same code runs on
calibration inputs and on uploads. A class is a function of the upload alone, so the curve of a
class holds for its uploads (Mondrian calibration). The rule is part of the pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trustscale_server.images.compression import LOSSLESS, Compression
from trustscale_server.kinds.classes import (
    Kind,
    compression_loss,
    file_numbers,
    kind_of,
    kinds_table,
)
from trustscale_server.kinds.resaved import strongest_compression
from trustscale_server.kinds.statistics import MIN_ENERGY, describe
from trustscale_server.pixels.lab import LUMA, Pixels, to_8_bit

UPLOAD: Final = "upload/6"
"""Classes by the learned table (`classes.json`); a new number may change classes."""

BANDS: Final = "bands/1"
"""Classes of data that were stretched: of one channel, or of three that differ."""

RULES: Final = (UPLOAD, BANDS)
"""The available rules; another version of one is another rule."""

_MIDDLE_SIDE = 512  # of the part in the middle whose features σ depends on
# log₂ of the factor of an enlargement as a linear function of `_energies`, fitted to photographs by
# least squares: a constant and weights, of pictures without and with loss.
_CLEAN, _LOSSY = (1.540, (0.679, -0.335, -0.382)), (1.731, (0.533, -0.152, -0.447))
_LOSSLESS: Final = Kind("lossless", softness=-2.0)


@dataclass(frozen=True, slots=True)
class InputFeatures:
    """What is known of an upload X before any generation.

    compression: the strongest that file and pixels show.
    detail: mean of log(1 + |∇|) of the luma in grey levels.
    noise: log of the median of the diagonal second difference, which structure hardly changes.
    colour: log of the mean range of the three channels.
    softness: log₂ of the factor by which it was probably enlarged; 0: none.
    kind: of upload, by the learned table. described: the numbers that it follows from, as the
    table sees them; empty: they were not kept.
    """

    compression: Compression
    detail: float
    noise: float
    colour: float
    softness: float
    kind: Kind = _LOSSLESS
    described: tuple[float, ...] = ()

    @property
    def is_nearly_soft(self) -> bool:
        """Whether it passes as sharp, and was probably blurred or enlarged a little."""
        return self.kind.is_nearly_soft

    def terms(self) -> dict[str, float]:
        """Return the features for a fitted σ; changing one raises `TRUST_LAYER_VERSION`.

        loss: 0 (lossless) to 1. lossy, jpeg: 1 if so, else 0. The others as above, rounded, since
        sums on other machines may differ in their last bits.
        """
        codec = self.compression.codec
        return {
            "loss": compression_loss(self.compression),
            "lossy": float(codec != "lossless"),
            "jpeg": float(codec == "jpeg"),
            "softness": round(self.softness, 3),
            "noise": round(self.noise, 3),
            "detail": round(self.detail, 3),
        }


def look_at(picture: Pixels, compression: Compression) -> InputFeatures:
    """Return the features of X, [h, w, 3], given what its file says of its compression."""
    rgb = to_8_bit(picture)
    middle = _middle_of(rgb)
    worst = strongest_compression(compression, middle)
    luma = np.asarray(middle @ LUMA, np.float32)
    detail, noise = _detail_and_noise(luma)
    constant, weights = _CLEAN if worst == LOSSLESS else _LOSSY
    described = kinds_table().standardised({**describe(rgb), **file_numbers(compression, worst)})
    return InputFeatures(
        worst,
        detail=detail,
        noise=noise,
        colour=_colour(middle),
        softness=float(constant + np.dot(weights, _energies(luma))),
        kind=kind_of(described, compression),
        described=tuple(described.tolist()),
    )


def _middle_of(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The part in the middle; it begins where blocks of JPEG do, at a multiple of 8 pixels."""
    height, width = rgb.shape[:2]
    top, left = (max(0, (side - _MIDDLE_SIDE) // 2) // 8 * 8 for side in (height, width))
    return rgb[top : top + _MIDDLE_SIDE, left : left + _MIDDLE_SIDE]


def _detail_and_noise(luma: NDArray[np.float32]) -> tuple[float, float]:
    padded = np.pad(luma, ((0, 1), (0, 1)), mode="edge")
    right = np.diff(padded, axis=1)
    across, down = right[:-1], np.diff(padded, axis=0)[:, :-1]
    diagonal = np.abs(np.diff(right, axis=0)) / 2
    detail = np.log1p(np.abs(across) + np.abs(down)).mean()
    return float(detail), float(np.log(np.median(diagonal) / 0.6745 + 0.25))


def _colour(pixels: NDArray[np.uint8]) -> float:
    red, green, blue = np.moveaxis(pixels, 2, 0)  # a reduction over three of them is slow
    highest = np.maximum(np.maximum(red, green), blue).astype(np.int16)
    channels = highest - np.minimum(np.minimum(red, green), blue)
    return float(np.log1p(channels.mean()))


def _energies(luma: NDArray[np.float32]) -> tuple[float, float, float]:
    """The levels of the luma, float32 [h, w], in grey levels, for the softness.

    Logarithms of mean squares, across and down together, of differences: between neighbours, over
    two pixels, of the fourth order.
    """

    def level(*differences: NDArray[np.float32]) -> float:
        means = [np.square(d).mean(dtype=np.float64) if d.size else 0.0 for d in differences]
        return float(np.log(np.mean(means) + MIN_ENERGY))

    return (
        level(np.diff(luma, axis=0), np.diff(luma, axis=1)),
        level(luma[2:] - luma[:-2], luma[:, 2:] - luma[:, :-2]),
        level(np.diff(luma, 4, axis=0), np.diff(luma, 4, axis=1)),
    )


def classify(rule: str, features: InputFeatures) -> str:
    """Return the class of an upload, such as `soft`. Raises ValueError: not one of `RULES`."""
    if rule not in RULES:
        raise ValueError(f"the rule must be one of {RULES}, got {rule!r}")
    if rule == BANDS:
        return "colour" if features.colour else "grey"
    return features.kind.name
