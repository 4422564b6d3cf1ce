"""Boxes, and words that are painted on a grid of pixels."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]
"""Left, top, right and bottom."""


def box_of(
    corners: NDArray[np.floating], shape: tuple[int, ...]
) -> tuple[tuple[slice, slice], NDArray[np.bool_]]:
    """Return the pixels in a convex quadrangle, as rows and columns, and bool of their shape.

    corners: (x, y) in pixels, in order around it, [4, 2]. At least one pixel of the picture.
    """
    last = np.array(shape[1::-1]) - 1
    low = np.clip(np.floor(corners.min(axis=0)), 0, last).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0)), low, last).astype(int)
    y, x = np.ogrid[low[1] : high[1] + 1, low[0] : high[0] + 1]
    sides = [
        (following[0] - corner[0]) * (y - corner[1]) - (following[1] - corner[1]) * (x - corner[0])
        for corner, following in zip(corners, np.roll(corners, -1, axis=0), strict=True)
    ]
    inside = np.all([side >= 0 for side in sides], axis=0)
    inside |= np.all([side <= 0 for side in sides], axis=0)
    if not inside.any():  # thinner than a pixel, or outside the picture
        inside[...] = True
    return np.s_[low[1] : high[1] + 1, low[0] : high[0] + 1], inside


def painted(
    boxes: Iterable[tuple[NDArray[np.floating], float]], shape: tuple[int, int], elsewhere: float
) -> NDArray[np.float32]:
    """Return a map, float32 [H, W], of the values of boxes; the larger one covers others."""
    values = np.full(shape, elsewhere, np.float32)
    for corners, value in boxes:
        place, inside = box_of(corners, shape)
        values[place][inside] = np.maximum(values[place][inside], np.float32(value))
    return values
