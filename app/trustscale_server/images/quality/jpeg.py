"""The quality of a JPEG file, from its table of quantisers."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

# The luminance table of ISO/IEC 10918-1, Annex K.1, which encoders scale by their quality.
_ANNEX_K = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)


def jpeg_quality(table: list[int]) -> int:
    """Return the quality whose Annex K table is nearest to this luminance table."""
    logs = np.log(np.maximum(np.array(table, np.float64), 1))
    return 1 + int(np.abs(np.log(luminance_tables()) - logs).sum(axis=1).argmin())


def scale_of(quality: int) -> int:
    """Return the factor on Annex K's steps, in percent."""
    return 5000 // quality if quality < 50 else 200 - 2 * quality


@cache
def luminance_tables() -> NDArray[np.int64]:
    """Return the luminance tables of quality 1 to 100, int64 [100, 64]."""
    scale = np.array([scale_of(quality) for quality in range(1, 101)])
    scaled = (_ANNEX_K.reshape(1, 64) * scale[:, None] + 50) // 100
    return np.asarray(np.clip(scaled, 1, 255), np.int64)
