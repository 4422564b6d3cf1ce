"""Where a large picture contradicts the small one it was made from, and where it adds detail.

The large picture is reduced as the small one was most probably made, and both are compared after a
Gaussian: an enlargement may invent what is finer than a pixel of the small picture, and nothing
else. What a faithful one differs by grows with the local detail of the small file, which holds its
noise and what compression did to it, so the limit grows with it, too. Its factors were chosen on
photographs other than those of docs/evidence-real.md.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray
from PIL import Image

from trustscale_server.pixels.placement import Placement, unrotated
from trustscale_server.platform.ordered_map import ordered_map

Plane = NDArray[np.float32]
_Planes = NDArray[np.float32]
"""Luma and two differences of colour (BT.601), float32 [3, H, W], in levels of 0 to 255."""

Reduction = Literal["bicubic", "area", "lanczos"]
_FILTERS: Final[dict[Reduction, Image.Resampling]] = {
    "bicubic": Image.Resampling.BICUBIC,
    "area": Image.Resampling.BOX,
    "lanczos": Image.Resampling.LANCZOS,
}

_TO_YCC: Final = (
    (0.299, 0.587, 0.114),
    (-0.168736, -0.331264, 0.5),
    (0.5, -0.418688, -0.081312),
)
_DEVIATION: Final = 1.0  # of the Gaussian, in pixels of the small picture
_STRIP: Final = 64  # rows of the small picture


class Compared(NamedTuple):
    """Two pictures on the grid of the placement's rectangle.

    reduced: the large one in this size. excess: the difference over its limit, [H, W]; above 1 the
    large picture contradicts. difference: by how much it differs after the Gaussian, apart from
    `offset`, by which it differs as a whole. limit: of luma, [H, W]. decibels: PSNR.
    """

    reduction: Reduction
    reduced: Image.Image
    excess: Plane
    difference: _Planes
    limit: Plane
    offset: tuple[float, float, float]
    decibels: float


class Upright(NamedTuple):
    """The box of a large picture that shows `width` × `height` pixels of the small one."""

    picture: Image.Image
    box: tuple[float, float, float, float]
    width: int
    height: int

    @classmethod
    def from_placement(cls, large: Image.Image, placement: Placement) -> Upright:
        """Return what a large picture shows of the small one."""
        left, top, right, bottom = placement.rectangle
        picture, box = unrotated(placement.orientation.applied(large), placement)
        return cls(picture, box, right - left, bottom - top)

    def strips(self) -> list[range]:
        """Return the rows of the small picture in parts: less memory, work for several cores."""
        return [
            range(first, min(first + _STRIP, self.height))
            for first in range(0, self.height, _STRIP)
        ]

    def rows(self, strip: range) -> tuple[float, float, float, float]:
        """Return the box of some rows of the small picture."""
        left, top, right, bottom = self.box
        pace = (bottom - top) / self.height
        return left, top + pace * strip.start, right, min(bottom, top + pace * strip.stop)

    def reduced(self, strip: range, way: Reduction) -> NDArray[np.uint8]:
        """Return some rows in the size of the small picture; rows beside them count, too."""
        size = self.width, len(strip)
        return np.asarray(self.picture.resize(size, _FILTERS[way], self.rows(strip)))


def compare_pictures(small: Image.Image, large: Upright) -> Compared:
    """Compare a part of the small picture with the large one that shows it. Both are RGB."""
    original = np.asarray(small)
    strips = large.strips()
    tried = range(0, len(strips), -(-len(strips) // 4))  # four of them choose the reduction
    with ordered_map("trustscale-check") as map_fn:

        def error(way: Reduction) -> int:
            def of_strip(number: int) -> int:
                rows = strips[number]
                return _squared_error(original[rows.start : rows.stop], large.reduced(rows, way))

            return sum(map_fn(of_strip, tried))

        reduction = min(_FILTERS, key=error)
        reduced = map_fn(
            lambda number: large.reduced(strips[number], reduction), range(len(strips))
        )
        theirs = np.concatenate(list(reduced))
        ours = _planes(original)
        difference = _planes(theirs) - ours
        luma, blue, red = map_fn(lambda number: _smoothed(difference[number]), range(3))
    detail = _detail(ours[0])
    limit = 25.0 + 0.8 * detail
    excess = np.abs(difference[0]) / limit
    for plane in difference[1:]:
        np.maximum(excess, np.abs(plane) / (30.0 + detail), out=excess)
    squared = _squared_error(original, theirs) / theirs.size
    decibels = float(10 * np.log10(255**2 / max(squared, 1e-3)))
    image = Image.fromarray(theirs)
    return Compared(reduction, image, excess, difference, limit, (luma, blue, red), decibels)


def unsourced_detail(large: Upright, theirs: Image.Image) -> Plane:
    """Return how much detail the large picture has that its reduction `theirs` cannot hold.

    Root mean square of luma in levels for each pixel of the rectangle, float32 [H, W].
    """
    low, picture = theirs.convert("L"), large.picture.convert("L")
    strips = large.strips()

    def root_mean_square(number: int) -> Plane:
        strip = strips[number]
        left, top, right, bottom = large.rows(strip)
        size = max(1, round(right - left)), max(1, round(bottom - top))
        enlarged = picture.resize(size, Image.Resampling.BICUBIC, (left, top, right, bottom))
        coarse = low.resize(size, Image.Resampling.BICUBIC, (0, strip.start, low.width, strip.stop))
        fine = np.asarray(enlarged, np.float32) - np.asarray(coarse)
        energy = Image.fromarray(np.square(fine, out=fine)).resize(
            (theirs.width, len(strip)), Image.Resampling.BOX
        )
        return np.sqrt(np.asarray(energy, np.float32))

    with ordered_map("trustscale-check") as map_fn:
        return np.concatenate(list(map_fn(root_mean_square, range(len(strips)))))


def _squared_error(ours: NDArray[np.uint8], theirs: NDArray[np.uint8]) -> int:
    """The sum of squared differences of two pictures of one size."""
    difference = ours.astype(np.int16) - theirs
    return int(np.square(difference, dtype=np.int32).sum(dtype=np.int64))


def _smoothed(difference: Plane) -> float:
    """Take the median off a plane, which is returned, and blur the rest; both in its place."""
    median = float(np.median(difference))
    difference -= np.float32(median)
    scipy.ndimage.gaussian_filter(difference, _DEVIATION, mode="reflect", output=difference)
    return median


def _planes(rgb: NDArray[np.uint8]) -> _Planes:
    planes = np.zeros((3, *rgb.shape[:2]), np.float32)
    for plane, weights in zip(planes, _TO_YCC, strict=True):
        for channel, weight in enumerate(weights):
            np.add(plane, np.float32(weight) * rgb[..., channel], out=plane)
    return planes


def _detail(luma: Plane) -> Plane:
    """The local deviation of what is finer than the Gaussian, which includes noise."""
    fine = luma - scipy.ndimage.gaussian_filter(luma, _DEVIATION, mode="reflect")
    energy = scipy.ndimage.gaussian_filter(fine * fine, 4.0, mode="reflect")
    return np.asarray(np.sqrt(np.maximum(energy, 0)), np.float32)
