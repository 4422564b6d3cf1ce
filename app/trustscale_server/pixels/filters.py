"""Smoothing kernels: non-negative, of sum 1, with reflected borders."""

from __future__ import annotations

from typing import Literal, TypeVar

import numpy as np
import scipy
from numpy.typing import NDArray

Real = TypeVar("Real", np.float32, np.float64)
Kernel = Literal["box", "gaussian"]


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
    blurred = scipy.ndimage.gaussian_filter(
        values, deviation, mode="reflect", radius=radius, output=out
    )
    return np.asarray(blurred, values.dtype)


def largest_float32(value: float) -> np.float32:
    """Return the largest float32 that does not exceed `value`."""
    nearest = np.float32(value)
    return nearest if float(nearest) <= value else np.nextafter(nearest, np.float32(-np.inf))
