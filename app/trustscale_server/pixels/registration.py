"""Finds where a small picture lies in a large one.

Whole pictures in one of eight orientations are tried first, and what is in none of them (crops,
unknown scales) is found by features that keep their look at any scale (SIFT, Lowe 2004). Then
shifts of tiles, by phase correlation to a fraction of a pixel (Guizar-Sicairos 2008), correct the
placement. Tiles that were changed are outliers of that fit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any, Final, NamedTuple

import numpy as np
import scipy
import skimage
from numpy.typing import NDArray
from PIL import Image

from trustscale_server.pixels.placement import (
    Matrix,
    Orientation,
    Placement,
    mapped,
    placement_of,
    unrotated,
)
from trustscale_server.pixels.resize import size_within

_Plane = NDArray[np.float32]
"""Luma, float32 [H, W], 0 to 255."""

_FOR_FEATURES: Final = 640  # pixels on the longest side, where features are looked for
_MIN_MATCHES: Final = 8


class _Candidate(NamedTuple):
    likeness: float
    placement: Placement


def align(small: Image.Image, large: Image.Image) -> Placement | None:
    """Return the likeliest placement of a small picture (RGB) in a large one.

    None: no part of one looks like a part of the other.
    """
    working = _at_most(1024, small.size)
    small_grey = small.convert("L").resize(working, Image.Resampling.BOX)
    large_grey = large.convert("L")
    luma = np.asarray(small_grey, np.float32)
    best: _Candidate | None = None
    for orientation, matrix in _guesses(small_grey, large_grey):
        refined = _refined(luma, large_grey, orientation, matrix)
        if refined is not None and (best is None or refined.likeness > best.likeness):
            best = refined
        if best is not None and best.likeness >= 0.95:  # no other will be likelier
            break
    # Pictures that belong together are at least as alike (docs/evidence-real.md).
    if best is None or best.likeness < 0.5:
        return None
    to_working = np.diag([working[0] / small.width, working[1] / small.height, 1.0])
    matrix = best.placement.matrix @ to_working
    return placement_of(matrix, best.placement.orientation, small.size, large.size)


def _at_most(longest: int, size: tuple[int, int]) -> tuple[int, int]:
    """The width and height of the same shape with no side above the longest."""
    return size_within(size, min(longest, max(size)))


def _likeness(ours: _Plane, theirs: _Plane) -> float:
    """The correlation of details of two pictures, −1 to 1.

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


def _guesses(small: Image.Image, large: Image.Image) -> Iterator[tuple[Orientation, Matrix]]:
    """How the large picture (L) may be oriented, and the map to it then; the likeliest first."""
    thumbnail = 96, 96
    ours = np.asarray(small.resize(thumbnail, Image.Resampling.BOX), np.float32)
    of_large = large.resize(thumbnail, Image.Resampling.BOX)
    likenesses = {
        orientation: _likeness(ours, np.asarray(orientation.applied(of_large), np.float32))
        for orientation in (Orientation(*way) for way in product((False, True), range(4)))
    }
    for orientation in sorted(likenesses, key=lambda each: -likenesses[each])[:2]:
        if likenesses[orientation] > 0.3:
            width, height = orientation.size_of(large.size)
            yield orientation, np.diag([width / small.width, height / small.height, 1.0])
    yield from _by_features(small, large)


def _by_features(small: Image.Image, large: Image.Image) -> Iterator[tuple[Orientation, Matrix]]:
    our_places, our_descriptors = _features(small)
    for mirrored in (False, True):
        places, descriptors = _features(Orientation(mirrored, 0).applied(large))
        if min(len(our_places), len(places)) < _MIN_MATCHES:
            continue
        pairs = skimage.feature.match_descriptors(
            our_descriptors, descriptors, max_ratio=0.8, cross_check=True
        )
        if len(pairs) < _MIN_MATCHES:
            continue
        threshold = 2 * large.width / min(large.width, _FOR_FEATURES)
        model, inliers = _fit(our_places[pairs[:, 0]], places[pairs[:, 1]], threshold)
        if model is None or inliers < _MIN_MATCHES:
            continue
        # A quarter turn is no rotation to interpolate.
        angle = math.atan2(model[1, 0], model[0, 0])
        turns = round(angle / (math.pi / 2)) % 4
        yield Orientation(mirrored, turns), Orientation(False, turns).matrix(large.size) @ model


def _features(picture: Image.Image) -> tuple[Matrix, NDArray[Any]]:
    """Places (x, y), [N, 2], and descriptors, [N, 128]."""
    size = _at_most(_FOR_FEATURES, picture.size)
    plane = np.asarray(picture.resize(size, Image.Resampling.BOX), np.float32) / 255
    upsampling = 2 if max(size) < _FOR_FEATURES / 2 else 1
    detector: Any = skimage.feature.SIFT(upsampling=upsampling)
    try:
        detector.detect_and_extract(plane)
    except RuntimeError:  # it found none
        return np.empty((0, 2)), np.empty((0, 128))
    order = np.argsort(-detector.sigmas)[:1500]  # the coarsest
    places = (detector.positions[order, ::-1] + 0.5) * (np.array(picture.size) / size)
    return places, detector.descriptors[order]


def _fit(source: Matrix, target: Matrix, threshold: float) -> tuple[Matrix | None, int]:
    """An affine map of most points, and of how many."""
    model, inliers = skimage.measure.ransac(
        (source, target),
        skimage.transform.AffineTransform,
        min_samples=3,
        residual_threshold=threshold,
        max_trials=500,
        rng=0,
    )
    if model is None or inliers is None or not np.isfinite(model.params).all():
        return None, 0
    return np.asarray(model.params, np.float64), int(inliers.sum())


def _refined(
    luma: _Plane, large: Image.Image, orientation: Orientation, matrix: Matrix
) -> _Candidate | None:
    """The placement with its matrix corrected by the shifts of tiles; None: it is no placement."""
    upright = orientation.applied(large)
    best: _Candidate | None = None
    for _ in range(4):
        placement = placement_of(matrix, orientation, (luma.shape[1], luma.shape[0]), large.size)
        if placement is None:
            return best
        left, top, right, bottom = placement.rectangle
        ours, theirs = luma[top:bottom, left:right], _reduced(upright, placement)
        likeness = _likeness(ours, theirs)
        if best is not None and likeness <= best.likeness:
            return best
        best = _Candidate(likeness, placement)
        correction = _correction(ours, theirs, (left, top))
        if correction is None:
            return best
        corners = np.array(list(product((left, right), (top, bottom))), np.float64)
        # Less than a twentieth of a pixel is noise of the measurement.
        if np.abs(mapped(correction, corners) - corners).max() < 0.05:
            return best
        matrix = matrix @ correction
    return best


def _reduced(upright: Image.Image, placement: Placement) -> _Plane:
    """What the large picture shows, in the size of the small one."""
    left, top, right, bottom = placement.rectangle
    picture, box = unrotated(upright, placement)
    size = right - left, bottom - top
    return np.asarray(picture.resize(size, Image.Resampling.BICUBIC, box), np.float32)


def _correction(ours: _Plane, theirs: _Plane, corner: tuple[int, int]) -> Matrix | None:
    """The affine map by which tiles of theirs should move, in the small picture's coordinates."""
    height, width = ours.shape
    tile = int(np.clip(min(height, width) // 3, 16, 128))
    our_details, their_details = _band(ours, 0.7, 8), _band(theirs, 0.7, 8)
    window = np.outer(np.hanning(tile), np.hanning(tile))
    places, shifts = [], []
    rows, columns = (
        np.unique(np.linspace(0, side - tile, 8).astype(int)) for side in (height, width)
    )
    for y, x in product(rows, columns):
        a, b = (
            plane[y : y + tile, x : x + tile] * window for plane in (our_details, their_details)
        )
        if min(a.std(), b.std()) < 0.3:  # flat
            continue
        shift, _, _ = skimage.registration.phase_cross_correlation(
            a, b, upsample_factor=50, normalization=None
        )
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
