"""Where a large picture contradicts the small one it was made from, and where it adds detail.

The large picture is reduced as the small one was most probably made, and both are compared after a
Gaussian: an enlargement may invent what is finer than a pixel of the small picture, and nothing
else. What a faithful one differs by grows with the local detail of the small file, which holds its
noise and what compression did to it, so the limit grows with it, too. Its factors were chosen on
photographs other than those that `benchmarks/check.py` reports.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray
from PIL import Image

from trustscale_server.images.check.align import Placement, luma_of, upright

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
_AROUND: Final = 4.0  # pixels, in which detail is measured
_STRIP: Final = 64  # rows of the small picture


@dataclass(frozen=True, slots=True)
class Limit:
    """Levels that a faithful enlargement may differ by: fixed + factor · local detail of luma."""

    fixed: float
    factor: float


_LUMA: Final = Limit(25.0, 0.8)
_CHROMA: Final = Limit(30.0, 1.0)


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


def compare(small: Image.Image, oriented: Image.Image, placement: Placement) -> Compared:
    """Compare the small picture with what the large one, as oriented, shows of it. Both are RGB."""
    shown = small.crop(placement.rectangle)
    picture, box = upright(oriented, placement)
    ways: list[tuple[float, Reduction, Image.Image]] = []
    for name, resample in _FILTERS.items():
        theirs = picture.resize(shown.size, resample, box)
        ways.append((_squared_error(shown, theirs), name, theirs))
    error, reduction, theirs = min(ways, key=lambda way: way[0])
    ours = _planes(shown)
    difference = _planes(theirs) - ours
    offset = np.median(difference, axis=(1, 2))
    difference -= offset[:, None, None]
    for plane in difference:
        scipy.ndimage.gaussian_filter(plane, _DEVIATION, mode="reflect", output=plane)
    detail = _detail(ours[0])
    limit = _LUMA.fixed + _LUMA.factor * detail
    excess = np.abs(difference[0]) / limit
    for plane in difference[1:]:
        np.maximum(excess, np.abs(plane) / (_CHROMA.fixed + _CHROMA.factor * detail), out=excess)
    luma, blue, red = (float(value) for value in offset)
    decibels = float(10 * np.log10(255**2 / max(error, 1e-3)))
    return Compared(reduction, theirs, excess, difference, limit, (luma, blue, red), decibels)


def added_detail(oriented: Image.Image, placement: Placement, theirs: Image.Image) -> Plane:
    """Return how much finer detail the large picture has, than its reduction `theirs` can hold.

    Root mean square of luma in levels for each pixel of the rectangle, float32 [H, W].
    """
    picture, (left, top, right, bottom) = upright(oriented, placement)
    picture, low = picture.convert("L"), theirs.convert("L")
    wide = max(1, round(right - left))
    pace = (bottom - top) / theirs.height
    strips = []
    for first in range(0, theirs.height, _STRIP):
        last = min(first + _STRIP, theirs.height)
        size = wide, max(1, round(pace * (last - first)))
        box = left, top + pace * first, right, min(bottom, top + pace * last)
        fine = luma_of(picture.resize(size, Image.Resampling.BICUBIC, box))
        fine -= luma_of(low.resize(size, Image.Resampling.BICUBIC, (0, first, low.width, last)))
        energy = Image.fromarray(fine * fine).resize(
            (theirs.width, last - first), Image.Resampling.BOX
        )
        strips.append(np.sqrt(np.asarray(energy, np.float32)))
    return np.concatenate(strips)


def _squared_error(one: Image.Image, other: Image.Image) -> float:
    """The mean squared difference of two RGB pictures of one size."""
    difference = np.asarray(one, np.int16) - np.asarray(other, np.int16)
    return float(np.square(difference, dtype=np.int32).mean())


def _planes(picture: Image.Image) -> _Planes:
    rgb = np.asarray(picture)
    planes = np.zeros((3, *rgb.shape[:2]), np.float32)
    for plane, weights in zip(planes, _TO_YCC, strict=True):
        for channel, weight in enumerate(weights):
            np.add(plane, np.float32(weight) * rgb[..., channel], out=plane)
    return planes


def _detail(luma: Plane) -> Plane:
    """The local deviation of what is finer than the Gaussian, which includes noise."""
    fine = luma - scipy.ndimage.gaussian_filter(luma, _DEVIATION, mode="reflect")
    energy = scipy.ndimage.gaussian_filter(fine * fine, _AROUND, mode="reflect")
    return np.asarray(np.sqrt(np.maximum(energy, 0)), np.float32)
