"""What can be known of an input before anything is generated, and the class that follows from it.

The same code looks at the inputs of calibration pairs and at uploads. A class is a function of the
upload alone, so a curve of the pairs of one class speaks about uploads of that class (Mondrian
calibration). Which rule is used is a part of the pipeline.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.images.compression import LOSSLESS, Compression, class_in_words, class_of, resaved_quality

COMPRESSION: Final = "compression/1"
"""Classes by how the upload was compressed. The number rises when a file may change its class."""

DETAIL: Final = "compression-detail/1"
"""The same, each divided into three by the detail of X."""

RULES: Final = (COMPRESSION, DETAIL)
"""The rules that this program has; another version of one is another rule."""

# About terciles of `detail` among 228 photographs that have no part in the shipped calibration,
# reduced by 4.
_DETAIL_EDGES: Final = (1.85, 2.5)
_DETAIL_WORDS: Final = ("little", "some", "much")

_MOST_SIDE = 512  # of the part in the middle that is looked at


@dataclass(frozen=True, slots=True)
class Facts:
    """Of X, an upload.

    compression: of its file, or, where that is without loss, what its pixels went through before.
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
    if compression == LOSSLESS:
        quality = resaved_quality(pixels)
        compression = compression if quality is None else Compression("jpeg", quality)
    luma = np.asarray(pixels @ np.array([0.299, 0.587, 0.114], np.float32), np.float32)
    padded = np.pad(luma, ((0, 1), (0, 1)), mode="edge")
    across, down = np.diff(padded, axis=1)[:-1], np.diff(padded, axis=0)[:, :-1]
    diagonal = np.abs(np.diff(np.diff(padded, axis=1), axis=0)) / 2
    channels = pixels.max(axis=2).astype(np.int16) - pixels.min(axis=2)
    return Facts(
        compression,
        detail=float(np.log1p(np.abs(across) + np.abs(down)).mean()),
        noise=float(np.log(np.median(diagonal) / 0.6745 + 0.25)),
        contrast=float(np.log1p(luma.std())),
        light=float(luma.mean() / 255),
        colour=float(np.log1p(channels.mean())),
    )


def classify(rule: str, facts: Facts) -> str:
    """The class of an upload under a rule, such as `jpeg-80` or `jpeg-80/detail-3`.

    Raises:
        ValueError: the rule is not one of `RULES`.
    """
    if rule not in RULES:
        raise ValueError(f"the rule must be one of {RULES}, got {rule!r}")
    name = class_of(facts.compression)
    if rule == COMPRESSION:
        return name
    return f"{name}/detail-{1 + int(np.searchsorted(_DETAIL_EDGES, facts.detail, side='right'))}"


def in_words(name: str) -> str:
    """A class for people, such as "JPEG of quality 80 to 89, with some detail"."""
    compression, _, detail = name.partition("/detail-")
    words = class_in_words(compression)
    return f"{words}, with {_DETAIL_WORDS[int(detail) - 1]} detail" if detail else words
