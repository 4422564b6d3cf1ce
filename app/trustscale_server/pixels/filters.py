"""Smoothing kernels: non-negative, of sum 1, with reflected borders."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import numpy as np
import scipy
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

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


def largest_float32(value: float) -> np.float32:
    """Return the largest float32 that does not exceed `value`."""
    nearest = np.float32(value)
    return nearest if float(nearest) <= value else np.nextafter(nearest, np.float32(-np.inf))
