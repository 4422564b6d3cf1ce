"""The trace that an earlier enlargement leaves: a roughness that repeats with the smaller grid.

An enlarged picture is interpolated, and how much that smooths depends on where a pixel lies between
those of the smaller picture. So its roughness repeats, by a factor f every 1 / (1 - 1/f) pixels;
that of a reduced or sharp one does not. Known from forensics (Gallagher 2005, Mahdian and Saic
2008); the whitening, and what follows it, were chosen on photographs (docs/mask-power.md).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_LEAST_SIDE, _MOST_SIDE = 32, 384  # of what is looked at
_FREQUENCIES: Final = 1024  # of a spectrum, the same for all sides
_LOWEST, _HIGHEST = 0.09, 0.4  # per pixel; enlarged by 1.1 to 1.67
_FADED: Final = 0.5  # share of each side where the window rises or falls
_FLOOR: Final = 0.02  # grey levels, a tenth of what rounding leaves: a frequency without it is none
_AROUND: Final = 31  # pixels, whose mean is the unit of roughness
_MOST: Final = 10.0  # of it, so that few pixels do not decide
_NONE: Final = 1e-3  # far below the power of any picture


def trace(luma: NDArray[np.float32]) -> float:
    """How far the strongest period stands out: log of its power over the median, at least 0.

    luma: [h, w], in grey levels. 0 where a side has fewer than 32 pixels. Rounded, since sums on
    other machines may differ in their last bits.
    """
    luma = luma[:_MOST_SIDE, :_MOST_SIDE]
    if min(luma.shape) < _LEAST_SIDE:
        return 0.0
    shown = np.outer(*(_fade(side) for side in luma.shape))
    # What repeats lies where an enlarged picture has little left, so all frequencies count alike.
    spectrum = np.fft.rfft2((luma - luma.mean(dtype=np.float64)) * shown)
    spectrum /= np.abs(spectrum) + _FLOOR * np.sqrt(np.square(shown).sum())
    roughness = luma.size * np.square(np.fft.irfft2(spectrum, luma.shape))
    roughness /= _means_around(roughness) + _NONE
    np.minimum(roughness, _MOST * roughness.mean(), out=roughness)
    powers = sum(_powers(roughness.mean(axis)) for axis in (0, 1))
    return round(float(np.log1p(np.max(powers))), 3)


def _means_around(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of `_AROUND`² pixels, reflected at the borders; scipy would take 0.3 s to load."""
    for _ in range(2):
        wide = np.pad(plane, ((_AROUND // 2 + 1, _AROUND // 2), (0, 0)), mode="symmetric")
        sums = np.cumsum(wide, axis=0)
        plane = ((sums[_AROUND:] - sums[:-_AROUND]) / _AROUND).T
    return plane


def _fade(side: int) -> NDArray[np.float64]:
    """Tukey's window, without the zeros at its ends."""
    inside = np.arange(1, side + 1) / (side + 1)
    near = np.minimum(np.minimum(inside, 1 - inside) / _FADED, 0.5)
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * near))


def _powers(profile: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the frequencies that an enlargement leaves, in units of their median."""
    spectrum = np.fft.rfft(profile - profile.mean(), _FREQUENCIES)
    low, high = (round(_FREQUENCIES * bound) for bound in (_LOWEST, _HIGHEST))
    powers = np.square(np.abs(spectrum[low : high + 1]))
    found: NDArray[np.float64] = powers / (np.median(powers) + _NONE)
    return found
