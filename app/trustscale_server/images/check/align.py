"""Where a small picture lies in a large one: scales, crop, shift, mirror, turn and small rotation.

Coordinates (x, y) count from the corner of the first pixel, so that a picture enlarged k times has
the placement diag(k, k, 1). Whole pictures in one of eight orientations are tried first, and what
is in neither (crops, unknown scales) is found by features that keep their look at any scale (SIFT,
Lowe 2004). Then shifts of tiles, by phase correlation to a fraction of a pixel (Guizar-Sicairos
2008), correct the placement. Tiles that were changed are outliers of that fit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import Any, Final

import numpy as np
import scipy
from numpy.typing import NDArray
from PIL import Image

_Matrix = NDArray[np.float64]
_Plane = NDArray[np.float32]
_Rectangle = tuple[int, int, int, int]
"""Left, top, right and bottom, in whole pixels."""

_SURELY: Final = 0.95
"""The likeness from which on no other placement is looked for."""

_THUMBNAIL: Final = 96  # pixels on a side, where orientations are told apart
_WORKING: Final = 1024  # pixels on the longest side of the small picture
_FOR_FEATURES: Final = 640  # pixels on the longest side, where features are looked for
_FEATURES: Final = 1500
_MIN_MATCHES: Final = 8
_TILES: Final = 8  # on a side
_STEPS: Final = 3  # of correction
_NONE: Final = 0.05  # pixels that a corner must move, or a correction is noise of its measurement
_STRAIGHT: Final = 0.05  # pixels of the small picture that a corner may be off as if not turned
_MIN_SIDE: Final = 16  # pixels of the small picture that both show
_MIN_SCALE: Final = 0.9


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the small picture lies in the large one.

    matrix: from the small picture to the large one as `oriented`, [3, 3]. mirrored: left and right
    are exchanged, before `turns` quarter turns against the clock. rectangle: of the small picture,
    what the large one shows. likeness: −1 to 1, see `likeness_of`.
    """

    matrix: _Matrix
    rectangle: _Rectangle
    mirrored: bool = False
    turns: int = 0
    likeness: float = -1.0

    @property
    def scales(self) -> tuple[float, float]:
        """How many pixels of the large picture, as oriented, are one of the small, in x and y."""
        across, down = self.matrix[:2, 0], self.matrix[:2, 1]
        return float(np.hypot(*across)), float(np.hypot(*down))

    @property
    def degrees(self) -> float:
        """How far the large picture is rotated against the small one, with the clock."""
        return math.degrees(math.atan2(self.matrix[1, 0], self.matrix[0, 0]))

    def oriented(self, large: Image.Image) -> Image.Image:
        """Return the large picture in the orientation of the small one."""
        if self.mirrored:
            large = large.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return large if self.turns == 0 else large.transpose(_TURNS[self.turns])

    def in_large(self, points: NDArray[Any], size: tuple[int, int]) -> _Matrix:
        """Return points (x, y), [N, 2], of the small picture in the large one, of this size."""
        return _moved(np.linalg.inv(self.to_small(size)), points)

    def box_in_large(
        self, points: NDArray[Any], size: tuple[int, int]
    ) -> tuple[int, int, int, int]:
        """Return the box (left, top, right, bottom) in the large picture that holds these points.

        It has whole pixels, one at least.
        """
        corners = self.in_large(points, size)
        low = np.clip(np.floor(corners.min(axis=0) + 0.01), 0, np.array(size) - 1).astype(int)
        high = np.clip(np.ceil(corners.max(axis=0) - 0.01), low + 1, size).astype(int)
        return int(low[0]), int(low[1]), int(high[0]), int(high[1])

    def to_small(self, size: tuple[int, int]) -> _Matrix:
        """Return the map from the large picture, of this size, to the small one, [3, 3]."""
        oriented = _orientation(self.mirrored, self.turns, size)
        return np.asarray(np.linalg.inv(self.matrix) @ oriented, np.float64)


_TURNS: Final = {
    1: Image.Transpose.ROTATE_90,
    2: Image.Transpose.ROTATE_180,
    3: Image.Transpose.ROTATE_270,
}


def align(small: Image.Image, large: Image.Image) -> Placement | None:
    """Return the likeliest placement of a small picture (RGB) in a large one.

    None: no part of one has been found in the other.
    """
    share = min(1.0, _WORKING / max(small.size))
    size = max(1, round(small.width * share)), max(1, round(small.height * share))
    small_grey, large_grey = (
        small.convert("L").resize(size, Image.Resampling.BOX),
        large.convert("L"),
    )
    luma = luma_of(small_grey)
    best: Placement | None = None
    for guess in _guesses(small_grey, large_grey):
        refined = _refined(luma, guess.oriented(large_grey), guess)
        if refined is not None and (best is None or refined.likeness > best.likeness):
            best = refined
        if best is not None and best.likeness >= _SURELY:
            break
    if best is None:
        return None
    to_working = np.diag([size[0] / small.width, size[1] / small.height, 1.0])
    turned = large.size if best.turns % 2 == 0 else large.size[::-1]
    unscaled = replace(best, matrix=best.matrix @ to_working)
    return _with_rectangle(unscaled, (small.height, small.width), turned)


def luma_of(picture: Image.Image) -> _Plane:
    """Return the luma of a picture, float32 [H, W], 0 to 255."""
    return np.asarray(picture.convert("L"), np.float32)


def upright(
    oriented: Image.Image, placement: Placement
) -> tuple[Image.Image, tuple[float, float, float, float]]:
    """Return the large picture without its rotation, and where in it the rectangle is."""
    box = _straight(placement, oriented.size)
    if box is not None:
        return oriented, box
    left, top, right, bottom = placement.rectangle
    scale_x, scale_y = (max(1, round(scale)) for scale in placement.scales)
    fine = np.diag([1 / scale_x, 1 / scale_y, 1.0])
    fine[:2, 2] = left, top
    matrix = placement.matrix @ fine
    size = (right - left) * scale_x, (bottom - top) * scale_y
    turned = oriented.transform(
        size, Image.Transform.AFFINE, tuple(matrix[:2].ravel()), Image.Resampling.BICUBIC
    )
    return turned, (0.0, 0.0, float(size[0]), float(size[1]))


def _reduced(oriented: Image.Image, placement: Placement) -> Image.Image:
    left, top, right, bottom = placement.rectangle
    picture, box = upright(oriented, placement)
    size = right - left, bottom - top
    return picture.resize(size, Image.Resampling.BICUBIC, box)


def likeness_of(ours: _Plane, theirs: _Plane) -> float:
    """Return the correlation of details of two pictures, luma float32 [H, W], −1 to 1.

    Details of 1 to 16 pixels: other pictures share their large forms by chance (a sky above), and
    finer ones are noise. 0: one has none.
    """
    planes = [_band(plane, 1, 16).ravel().astype(np.float64) for plane in (ours, theirs)]
    first, second = (plane - plane.mean() for plane in planes)
    norm = math.sqrt(float(first @ first) * float(second @ second))
    return float(first @ second) / norm if norm > 0 else 0.0


def _band(plane: _Plane, fine: float, coarse: float) -> _Plane:
    low = scipy.ndimage.gaussian_filter(plane, coarse, mode="reflect")
    return np.asarray(scipy.ndimage.gaussian_filter(plane, fine, mode="reflect") - low, np.float32)


def _straight(
    placement: Placement, size: tuple[int, int]
) -> tuple[float, float, float, float] | None:
    """The rectangle in the large picture as a box of a size; None: it is rotated."""
    left, top, right, bottom = placement.rectangle
    matrix = placement.matrix
    scale_x, scale_y = placement.scales
    skewed = max(
        abs(matrix[0, 1]) * (bottom - top) / scale_x, abs(matrix[1, 0]) * (right - left) / scale_y
    )
    if skewed > _STRAIGHT:
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


def _guesses(small: Image.Image, large: Image.Image) -> Iterator[Placement]:
    """Placements to try, the likeliest first."""
    side = _THUMBNAIL
    thumb = luma_of(small.resize((side, side), Image.Resampling.BOX))
    of_large = large.resize((side, side), Image.Resampling.BOX)
    orientations = []
    for mirrored, turns in product((False, True), range(4)):
        guess = Placement(np.eye(3), (0, 0, *small.size), mirrored, turns)
        orientations.append((likeness_of(thumb, luma_of(guess.oriented(of_large))), guess))
    for likeness, guess in sorted(orientations, key=lambda candidate: -candidate[0])[:2]:
        width, height = large.size if guess.turns % 2 == 0 else large.size[::-1]
        matrix = np.diag([width / small.width, height / small.height, 1.0])
        if likeness > 0.3:
            yield replace(guess, matrix=matrix)
    yield from _by_features(small, large)


def _by_features(small: Image.Image, large: Image.Image) -> Iterator[Placement]:
    ours = _features(small)
    for mirrored in (False, True):
        unturned = Placement(np.eye(3), (0, 0, *small.size), mirrored)
        theirs = _features(unturned.oriented(large))
        if min(len(ours[0]), len(theirs[0])) < _MIN_MATCHES:
            continue
        pairs = _skimage().feature.match_descriptors(
            ours[1], theirs[1], max_ratio=0.8, cross_check=True
        )
        if len(pairs) < _MIN_MATCHES:
            continue
        source, target = ours[0][pairs[:, 0]], theirs[0][pairs[:, 1]]
        threshold = 2 * large.width / min(large.width, _FOR_FEATURES)
        model, inliers = _fit(source, target, threshold)
        if model is None or inliers < _MIN_MATCHES:
            continue
        # A quarter turn is no rotation to interpolate.
        angle = math.atan2(model[1, 0], model[0, 0])
        turns = round(angle / (math.pi / 2)) % 4
        orientation = _orientation(False, turns, large.size)
        yield replace(unturned, matrix=orientation @ model, turns=turns)


def _features(picture: Image.Image) -> tuple[_Matrix, NDArray[Any]]:
    """Places (x, y), [N, 2], and descriptors, [N, 128]."""
    share = min(1.0, _FOR_FEATURES / max(picture.size))
    size = max(1, round(picture.width * share)), max(1, round(picture.height * share))
    plane = luma_of(picture.resize(size, Image.Resampling.BOX)) / 255
    detector = _skimage().feature.SIFT(upsampling=2 if max(size) < _FOR_FEATURES / 2 else 1)
    try:
        detector.detect_and_extract(plane)
    except RuntimeError:  # it found none
        return np.empty((0, 2)), np.empty((0, 128))
    order = np.argsort(-detector.sigmas)[:_FEATURES]
    places = (detector.positions[order, ::-1] + 0.5) * (np.array(picture.size) / size)
    return places, detector.descriptors[order]


def _fit(source: _Matrix, target: _Matrix, threshold: float) -> tuple[_Matrix | None, int]:
    """An affine map of most points, and of how many."""
    model, inliers = _skimage().measure.ransac(
        (source, target),
        _skimage().transform.AffineTransform,
        min_samples=3,
        residual_threshold=threshold,
        max_trials=500,
        rng=0,
    )
    if model is None or inliers is None or not np.isfinite(model.params).all():
        return None, 0
    return np.asarray(model.params, np.float64), int(inliers.sum())


def _refined(luma: _Plane, oriented: Image.Image, guess: Placement) -> Placement | None:
    """The guess with its matrix corrected by the shifts of tiles; None: it is no placement."""
    best: Placement | None = None
    placement = guess
    for _ in range(_STEPS + 1):
        fitted = _with_rectangle(placement, luma.shape, oriented.size)
        if fitted is None:
            return best
        left, top, right, bottom = fitted.rectangle
        ours = luma[top:bottom, left:right]
        theirs = luma_of(_reduced(oriented, fitted))
        fitted = replace(fitted, likeness=likeness_of(ours, theirs))
        if best is not None and fitted.likeness <= best.likeness:
            return best
        best = fitted
        correction = _correction(ours, theirs, (left, top))
        corners = np.array(list(product((left, right), (top, bottom))), np.float64)
        if correction is None or np.abs(_moved(correction, corners) - corners).max() < _NONE:
            return best
        placement = replace(fitted, matrix=fitted.matrix @ correction)
    return best


def _with_rectangle(
    placement: Placement, shape: tuple[int, ...], size: tuple[int, int]
) -> Placement | None:
    """The placement with the largest upright rectangle that both pictures show."""
    matrix = placement.matrix
    if min(placement.scales) < _MIN_SCALE or np.linalg.det(matrix[:2, :2]) <= 0:
        return None
    height, width = shape
    corners = np.array([(0, 0), (size[0], 0), (0, size[1]), size], np.float64)
    top_left, top_right, bottom_left, bottom_right = _moved(np.linalg.inv(matrix), corners)
    # Corners by a tenth of a pixel outside are rounding.
    left = max(0, math.ceil(max(top_left[0], bottom_left[0]) - 0.1))
    top = max(0, math.ceil(max(top_left[1], top_right[1]) - 0.1))
    right = min(width, math.floor(min(top_right[0], bottom_right[0]) + 0.1))
    bottom = min(height, math.floor(min(bottom_left[1], bottom_right[1]) + 0.1))
    if min(right - left, bottom - top) < min(_MIN_SIDE, height, width):
        return None
    return replace(placement, rectangle=(left, top, right, bottom))


def _correction(ours: _Plane, theirs: _Plane, corner: tuple[int, int]) -> _Matrix | None:
    """The affine map by which tiles of theirs should move, in the small picture's coordinates."""
    height, width = ours.shape
    tile = int(np.clip(min(height, width) // 3, 16, 128))
    our_details, their_details = _band(ours, 0.7, 8), _band(theirs, 0.7, 8)
    window = np.outer(np.hanning(tile), np.hanning(tile))
    places, shifts = [], []
    registered = _skimage().registration.phase_cross_correlation
    rows, columns = (
        np.unique(np.linspace(0, side - tile, _TILES).astype(int)) for side in (height, width)
    )
    for y, x in product(rows, columns):
        a, b = (
            plane[y : y + tile, x : x + tile] * window for plane in (our_details, their_details)
        )
        if min(a.std(), b.std()) < 0.3:  # flat
            continue
        shift, _, _ = registered(a, b, upsample_factor=50, normalization=None)
        if np.abs(shift).max() < tile / 4:
            places.append((corner[0] + x + tile / 2, corner[1] + y + tile / 2))
            shifts.append((-shift[1], -shift[0]))
    if len(places) < 6:
        return None
    source, moved = np.array(places), np.array(shifts)
    matrix, inliers = _fit(source, source + moved, 0.3)
    if matrix is None or inliers < max(6, len(places) // 3):
        matrix = np.eye(3)
        matrix[:2, 2] = np.median(moved, axis=0)
    return matrix


@cache
def _skimage() -> Any:
    """The library, which takes long to load; its parts are loaded when they are used."""
    import skimage  # noqa: PLC0415

    return skimage


def _orientation(mirrored: bool, turns: int, size: tuple[int, int]) -> _Matrix:
    """From coordinates of a picture of this size to those of the picture as oriented."""
    width, height = size
    matrix = np.eye(3)
    if mirrored:
        matrix = np.array([[-1.0, 0, width], [0, 1, 0], [0, 0, 1]])
    for _ in range(turns):  # against the clock: (x, y) → (y, width − x)
        matrix = np.array([[0.0, 1, 0], [-1, 0, width], [0, 0, 1]]) @ matrix
        width, height = height, width
    return matrix


def _moved(matrix: NDArray[Any], points: NDArray[Any]) -> _Matrix:
    return np.asarray(points @ matrix[:2, :2].T + matrix[:2, 2], np.float64)
