"""Smoothing kernels K: non-negative, of sum 1, with reflected borders.

So a smoothed value stays in the range of its sources, and the bound B of an error survives.
"""

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
    """K * values for float [H, W], K a window of `size` pixels; size 1 returns the input.

    A Gaussian window has standard deviation size/6. The output has the dtype of the input; sums are
    made in float64. `out` may be the input itself.
    """
    if size == 1:
        return values
    if kernel == "gaussian":
        return _gaussian(values, size / 6, size // 2, out)
    found = scipy.ndimage.uniform_filter(values, size, mode="reflect", output=out)
    return np.asarray(found, values.dtype)


def gaussian_blur(
    values: NDArray[Real], deviation: float, *, out: NDArray[Real] | None = None
) -> NDArray[Real]:
    """Gaussian blur of float [H, W], standard deviation in pixels, cut at 4 deviations.

    `out` as in `smooth`.
    """
    if deviation == 0:
        return values
    return _gaussian(values, deviation, gaussian_radius(deviation), out)


def gaussian_radius(deviation: float) -> int:
    """How far, in pixels, `gaussian_blur` looks."""
    return int(4 * deviation + 0.5)


def _gaussian(
    values: NDArray[Real], deviation: float, radius: int, out: NDArray[Real] | None
) -> NDArray[Real]:
    blurred = scipy.ndimage.gaussian_filter(
        values, deviation, mode="reflect", radius=radius, output=out
    )
    return np.asarray(blurred, values.dtype)
