"""Where a small picture lies in a large one, which may be mirrored, turned, rotated and cropped.

Coordinates (x, y) count from the corner of the first pixel, so that a picture enlarged k times has
the matrix diag(k, k, 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Matrix = NDArray[np.float64]
"""An affine map, [3, 3], or points (x, y), [N, 2]."""

Rectangle = tuple[int, int, int, int]
"""Left, top, right and bottom, in whole pixels."""

_TURNS: Final = {
    1: Image.Transpose.ROTATE_90,
    2: Image.Transpose.ROTATE_180,
    3: Image.Transpose.ROTATE_270,
}


class Orientation(NamedTuple):
    """How a picture is brought upright.

    mirrored: left and right are exchanged, first. turns: quarter turns against the clock, 0 to 3.
    """

    mirrored: bool
    turns: int

    def applied(self, picture: Image.Image) -> Image.Image:
        """Return the picture upright."""
        if self.mirrored:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return picture if self.turns == 0 else picture.transpose(_TURNS[self.turns])

    def size_of(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the width and height that a picture of this size has upright."""
        return size if self.turns % 2 == 0 else size[::-1]

    def matrix(self, size: tuple[int, int]) -> Matrix:
        """Return the map from a picture of this size to the upright one."""
        width, height = size
        matrix = np.eye(3)
        if self.mirrored:
            matrix = np.array([[-1.0, 0, width], [0, 1, 0], [0, 0, 1]])
        for _ in range(self.turns):  # against the clock: (x, y) → (y, width − x)
            matrix = np.array([[0.0, 1, 0], [-1, 0, width], [0, 0, 1]]) @ matrix
            width, height = height, width
        return matrix


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the small picture lies in the large one.

    matrix: from the small picture to the large one upright. rectangle: of the small picture, what
    the large one shows. orientation: of the large one.
    """

    matrix: Matrix
    rectangle: Rectangle
    orientation: Orientation

    @property
    def scales(self) -> tuple[float, float]:
        """How many pixels of the large picture, upright, are one of the small, in x and y."""
        return _scales(self.matrix)

    @property
    def degrees(self) -> float:
        """How far the large picture is rotated against the small one, with the clock."""
        return math.degrees(math.atan2(self.matrix[1, 0], self.matrix[0, 0]))

    def to_small(self, size: tuple[int, int]) -> Matrix:
        """Return the map from the large picture, of this size, to the small one."""
        upright = self.orientation.matrix(size)
        return np.asarray(np.linalg.inv(self.matrix) @ upright, np.float64)

    def in_large(self, points: NDArray[Any], size: tuple[int, int]) -> Matrix:
        """Return points of the small picture in the large one, of this size."""
        return mapped(np.linalg.inv(self.to_small(size)), points)

    def box_in_large(self, points: NDArray[Any], size: tuple[int, int]) -> Rectangle:
        """Return the rectangle of the large picture that holds these points of the small one.

        It has whole pixels, one at least; a hundredth of a pixel is rounding.
        """
        corners = self.in_large(points, size)
        low = np.clip(np.floor(corners.min(axis=0) + 0.01), 0, np.array(size) - 1).astype(int)
        high = np.clip(np.ceil(corners.max(axis=0) - 0.01), low + 1, size).astype(int)
        return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def placement_of(
    matrix: Matrix, orientation: Orientation, small: tuple[int, int], large: tuple[int, int]
) -> Placement | None:
    """Return the placement with the largest rectangle that pictures of these sizes both show.

    None: the matrix reduces or mirrors, or less than 16 pixels of the small picture are shown.
    """
    if min(_scales(matrix)) < 0.9 or np.linalg.det(matrix[:2, :2]) <= 0:
        return None
    across, down = orientation.size_of(large)
    corners = np.array([(0, 0), (across, 0), (0, down), (across, down)], np.float64)
    top_left, top_right, bottom_left, bottom_right = mapped(np.linalg.inv(matrix), corners)
    width, height = small
    # Corners by a tenth of a pixel outside are rounding.
    left = max(0, math.ceil(max(top_left[0], bottom_left[0]) - 0.1))
    top = max(0, math.ceil(max(top_left[1], top_right[1]) - 0.1))
    right = min(width, math.floor(min(top_right[0], bottom_right[0]) + 0.1))
    bottom = min(height, math.floor(min(bottom_left[1], bottom_right[1]) + 0.1))
    if min(right - left, bottom - top) < min(16, height, width):
        return None
    return Placement(matrix, (left, top, right, bottom), orientation)


def unrotated(
    upright: Image.Image, placement: Placement
) -> tuple[Image.Image, tuple[float, float, float, float]]:
    """Return the large picture, upright, without its rotation, and where the rectangle is in it."""
    box = _straight_box(placement, upright.size)
    if box is not None:
        return upright, box
    left, top, right, bottom = placement.rectangle
    scale_x, scale_y = (max(1, round(scale)) for scale in placement.scales)
    fine = np.diag([1 / scale_x, 1 / scale_y, 1.0])
    fine[:2, 2] = left, top
    matrix = placement.matrix @ fine
    size = (right - left) * scale_x, (bottom - top) * scale_y
    turned = upright.transform(
        size, Image.Transform.AFFINE, tuple(matrix[:2].ravel()), Image.Resampling.BICUBIC
    )
    return turned, (0.0, 0.0, float(size[0]), float(size[1]))


def mapped(matrix: NDArray[Any], points: NDArray[Any]) -> Matrix:
    """Return what an affine map makes of points."""
    return np.asarray(points @ matrix[:2, :2].T + matrix[:2, 2], np.float64)


def _scales(matrix: Matrix) -> tuple[float, float]:
    across, down = matrix[:2, 0], matrix[:2, 1]
    return float(np.hypot(*across)), float(np.hypot(*down))


def _straight_box(
    placement: Placement, size: tuple[int, int]
) -> tuple[float, float, float, float] | None:
    """The rectangle in the large picture, of this size; None: it is rotated."""
    left, top, right, bottom = placement.rectangle
    matrix = placement.matrix
    scale_x, scale_y = placement.scales
    skewed = max(
        abs(matrix[0, 1]) * (bottom - top) / scale_x, abs(matrix[1, 0]) * (right - left) / scale_y
    )
    if skewed > 0.05:  # pixels of the small picture by which a corner is off
        return None
    # The mean of what is left of the rotation.
    x = matrix[0, 2] + matrix[0, 1] * (top + bottom) / 2
    y = matrix[1, 2] + matrix[1, 0] * (left + right) / 2
    return (
        max(0.0, matrix[0, 0] * left + x),
        max(0.0, matrix[1, 1] * top + y),
        min(float(size[0]), matrix[0, 0] * right + x),
        min(float(size[1]), matrix[1, 1] * bottom + y),
    )
