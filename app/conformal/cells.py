"""Sums of the terms of the fitted σ (`terms.py`) on cells, and cells as pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.conformal.terms import (
    CELL,
    STRIP,
    Each,
    Look,
    Measured,
    Plane,
    T,
    fact_of,
    is_fact,
    term_names,
    wait_for,
)
from app.conformal.texture import Level, pyramid

_ROUNDING = 1 << 20


def log_sigma(
    maps: Measured,
    weights: Mapping[str, NDArray[np.float64]],
    join: Callable[[Plane], Plane],
    each: Each = map,
) -> Plane:
    """join(Σ_j w_kj f_j) on the cells of level 0, float64 [⌈H/4⌉, ⌈W/4⌉].

    Rounded to multiples of 2^-20. Logarithms and sums of different machines may differ in their
    last bits, about 1e-14; that moves a rounded value once in a hundred million cells, and then σ
    by a millionth.

    Args:
        maps: of one image.
        weights: w_kj, float64 [K] by the name of the term.
        join: makes one plane of the K sums, [K, h, w], cell by cell.
        each: goes through the strips; they do not depend on each other, nor on their order.

    Raises:
        ValueError: a name is not that of a term, or the maps do not tell it.
    """
    if unknown := set(weights) - maps.known:
        raise ValueError(f"there are no terms {sorted(unknown)}")
    of_facts = {name: weights[name] for name in weights if is_fact(name)}
    same = sum(
        (weight * fact_of(maps, name) for name, weight in of_facts.items()),
        start=np.zeros(len(next(iter(weights.values())))),
    )
    weights = {name: weight for name, weight in weights.items() if name not in of_facts}
    levels = pyramid(maps, frozenset(weights), each)
    height, width = (-(-side // CELL) for side in maps.shape)
    joined = np.empty((height, width))

    # K planes of a large level never exist at once.
    def strip(top: int) -> None:
        place = joined[top : min(top + STRIP, height)]
        sums = _sums(levels, weights, len(same), top, top + len(place))
        place[:] = join(sums + same[:, None, None])[:, :width]
        place *= _ROUNDING
        np.rint(place, out=place)
        place *= 1 / _ROUNDING  # exact

    wait_for(each(strip, range(0, height, STRIP)))
    return joined


def _sums(
    levels: Sequence[Level],
    weights: Mapping[str, NDArray[np.float64]],
    count: int,
    top: int,
    bottom: int,
) -> Plane:
    """Σ_j w_kj f_j over these levels on some rows of the first, float64 [K, bottom − top, w].

    K is `count`.
    """
    finest, *coarser = levels
    if coarser:
        # From coarse to fine: interpolation is linear, so a level is summed before it is enlarged.
        # A row lies between two of the coarser level.
        above = max(0, top // 2 - 1)
        below = min(bottom // 2 + 1, coarser[0].shape[0])
        large = double(_sums(coarser, weights, count, above, below))
        total = large[:, top - 2 * above : bottom - 2 * above]
    else:
        total = np.zeros((count, bottom - top, finest.shape[1]))
    for name, values in finest.terms.items():
        total += np.multiply.outer(weights[name], values[top:bottom])
    return total


def dense_terms(maps: Measured) -> dict[str, NDArray[np.float32]]:
    """Every known term on the cells of level 0, float32 [⌈H/4⌉, ⌈W/4⌉] each."""
    height, width = (-(-side // CELL) for side in maps.shape)
    dense = {}
    for depth, level in enumerate(pyramid(maps, maps.known, map)):
        for name, values in level.terms.items():
            plane = values
            for _ in range(depth):
                plane = double(plane)
            dense[name] = plane[:height, :width].astype(np.float32)
    for name in filter(is_fact, term_names() if maps.facts is not None else ()):
        dense[name] = np.full((height, width), fact_of(maps, name), np.float32)
    return dense


def whole(
    shape: tuple[int, int], strips: Callable[[Look[None]], Iterable[None]]
) -> NDArray[np.float32]:
    """The plane, float32 [H, W], whose rows `strips` gives to whoever looks at them."""
    plane = np.empty(shape, np.float32)

    def keep(top: int, rows: NDArray[np.float32]) -> None:
        plane[top : top + len(rows)] = rows

    wait_for(strips(keep))
    return plane


def enlarged(cells: Plane, shape: tuple[int, int], look: Look[T], each: Each = map) -> Iterable[T]:
    """What is said of cells of level 0 as pixels, by linear interpolation: float32 [H, W].

    Some rows are made after the others.
    """

    def strip(top: int) -> T:
        # Two more rows of cells on either side: a pixel lies between two of them, twice.
        above, below = max(0, top - 2), min(len(cells), top + STRIP + 2)
        first, end = CELL * top, min(CELL * (top + STRIP), shape[0])
        large = double(double(cells[above:below].astype(np.float32)))[first - CELL * above :]
        return look(first, large[: end - first, : shape[1]])

    return each(strip, range(0, len(cells), STRIP))


def double(plane: NDArray[Any]) -> NDArray[Any]:
    """Twice as high and wide by linear interpolation between the centres, float [..., h, w]."""
    *planes, height, width = plane.shape
    near = 3 * plane
    tall = np.empty((*planes, 2 * height, width), plane.dtype)
    np.add(near[..., 1:, :], plane[..., :-1, :], out=tall[..., 2::2, :])
    np.add(near[..., :-1, :], plane[..., 1:, :], out=tall[..., 1:-1:2, :])
    for end in (0, -1):
        np.add(near[..., end, :], plane[..., end, :], out=tall[..., end, :])
    near = 3 * tall
    large = np.empty((*planes, 2 * height, 2 * width), plane.dtype)
    np.add(near[..., 1:], tall[..., :-1], out=large[..., 2::2])
    np.add(near[..., :-1], tall[..., 1:], out=large[..., 1:-1:2])
    for end in (0, -1):
        np.add(near[..., end], tall[..., end], out=large[..., end])
    large *= 1 / 16  # exact
    return large
