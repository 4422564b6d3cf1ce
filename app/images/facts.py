"""What can be known of an input before anything is generated, and the class that follows from it.

The same code looks at the inputs of calibration pairs and at uploads. A class is a function of the
upload alone, so a curve of the pairs of one class speaks about uploads of that class (Mondrian
calibration). Which rule is used is a part of the pipeline.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.images.compression import LOSSLESS, Compression, class_of, worst_of

UPLOAD: Final = "upload/1"
"""Classes by the strongest compression that an upload went through, and by whether it is soft, or
rough without loss.

The number rises when a file may change its class.
"""

RULES: Final = (UPLOAD,)
"""The rules that this program has; another version of one is another rule."""

_USUAL_QUALITY: Final = 50  # of a file that does not tell it
_LEAST_ENERGY = 0.05  # of differences: rounding to 8 bits leaves as much
_ROUGH = 1.2  # about what noise of 3 grey levels leaves
_MOST_SIDE = 512  # of the part in the middle that is looked at


class _Softness(NamedTuple):
    """How softness follows from `energies`: a constant, a weight of each, and where soft begins.

    By least squares on photographs that were enlarged by 1.25 to 2, blurred, noisy or none; about
    7 % of those that are not soft lie above (`benchmarks/softness.py` tries it on others).
    """

    constant: float
    neighbours: float
    over_two: float
    fourth: float
    soft: float

    def of(self, luma: NDArray[np.float32]) -> float:
        """Of the luma, float32 [h, w]."""
        return float(self.constant + np.dot(self[1:4], energies(luma)))


_CLEAN: Final = _Softness(1.540, 0.679, -0.335, -0.382, soft=0.25)
_LOSSY: Final = _Softness(1.731, 0.533, -0.152, -0.447, soft=0.45)


@dataclass(frozen=True, slots=True)
class Facts:
    """Of X, an upload.

    compression: the strongest that it went through, as far as its file and pixels tell.
    softness: log₂ of the factor by which it was probably enlarged; 0: none.
    detail: mean of log(1 + |∇|) of the luma in grey levels, over the pixels.
    noise: log of the median of the diagonal second difference, which structure hardly touches.
    contrast: log of the standard deviation of the luma; light: its mean, 0 to 1.
    colour: log of the mean range of the three channels.
    """

    compression: Compression
    detail: float
    noise: float
    contrast: float
    light: float
    colour: float
    softness: float

    @property
    def is_soft(self) -> bool:
        """Whether it was probably enlarged or blurred before it was uploaded."""
        return self.softness >= _weights(self.compression).soft

    @property
    def is_rough(self) -> bool:
        """Whether neighbouring pixels differ everywhere, by noise or by dense detail."""
        return self.noise >= _ROUGH

    def terms(self) -> dict[str, float]:
        """What a fitted σ may look at.

        loss: 0 of files without loss to 1. lossy, jpeg: 1 if so, else 0. The others as above, but
        rounded, since sums of other machines may differ in their last bits. Whoever changes a fact
        changes σ, and raises `TRUST_LAYER_VERSION`.
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
        """All but the compression."""
        fields = asdict(self)
        del fields["compression"]
        return fields


def look_at(rgb: NDArray[np.uint8], compression: Compression) -> Facts:
    """The facts of X, uint8 [h, w, 3], given what its file says of its compression."""
    height, width = rgb.shape[:2]
    # A multiple of 8 from the corner, so that a grid of blocks stays where it is.
    top, left = (max(0, (side - _MOST_SIDE) // 2) // 8 * 8 for side in (height, width))
    pixels = rgb[top : top + _MOST_SIDE, left : left + _MOST_SIDE]
    compression = worst_of(compression, pixels)
    luma = np.asarray(pixels @ np.array([0.299, 0.587, 0.114], np.float32), np.float32)
    padded = np.pad(luma, ((0, 1), (0, 1)), mode="edge")
    right = np.diff(padded, axis=1)
    across, down = right[:-1], np.diff(padded, axis=0)[:, :-1]
    diagonal = np.abs(np.diff(right, axis=0)) / 2
    red, green, blue = np.moveaxis(pixels, 2, 0)  # a reduction over three of them is slow
    highest = np.maximum(np.maximum(red, green), blue).astype(np.int16)
    channels = highest - np.minimum(np.minimum(red, green), blue)
    return Facts(
        compression,
        detail=float(np.log1p(np.abs(across) + np.abs(down)).mean()),
        noise=float(np.log(np.median(diagonal) / 0.6745 + 0.25)),
        contrast=float(np.log1p(luma.std())),
        light=float(luma.mean() / 255),
        colour=float(np.log1p(channels.mean())),
        softness=_weights(compression).of(luma),
    )


def _weights(compression: Compression) -> _Softness:
    return _CLEAN if compression == LOSSLESS else _LOSSY


def energies(luma: NDArray[np.float32]) -> tuple[float, float, float]:
    """What softness is read from, of the luma, float32 [h, w], in grey levels.

    Logarithms of the mean squares of differences between neighbours, over two pixels, and of the
    fourth order, across and down together.
    """

    def level(*differences: NDArray[np.float32]) -> float:
        means = [np.square(d).mean(dtype=np.float64) if d.size else 0.0 for d in differences]
        return float(np.log(np.mean(means) + _LEAST_ENERGY))

    return (
        level(np.diff(luma, axis=0), np.diff(luma, axis=1)),
        level(luma[2:] - luma[:-2], luma[:, 2:] - luma[:, :-2]),
        level(np.diff(luma, 4, axis=0), np.diff(luma, 4, axis=1)),
    )


def classify(rule: str, facts: Facts) -> str:
    """The class of an upload under a rule, such as `jpeg-80` or `soft/jpeg-80`.

    Raises:
        ValueError: the rule is not one of `RULES`.
    """
    if rule not in RULES:
        raise ValueError(f"the rule must be one of {RULES}, got {rule!r}")
    return class_of(facts.compression, is_soft=facts.is_soft, is_rough=facts.is_rough)
