"""log σ from the terms of an image, summed by weights, and σ of the pixels between the cells.

Levels are summed before they are enlarged, strip by strip, so that no term is ever as large as the
image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from trustscale_server.sampling.sigma.features import (
    CELL,
    STRIP,
    MapFn,
    MapSource,
    OnRows,
    fact_of,
    is_fact,
    wait_for,
)
from trustscale_server.sampling.sigma.pyramid import Level, double, measured_levels

_Plane = NDArray[np.float64]
T = TypeVar("T")

_Unit: TypeAlias = tuple[float, float]
"""v and b of what bends: v max(0, b + …)."""

_ROUNDING = 1 << 20
_JOINED = 4 * STRIP  # rows of the finest level that are summed at once

# A unit below this at all cells of the coarser level is so at the cells between them, whatever is
# rounded: it adds nothing.
_DEAD = -1e-3


def log_sigma(
    maps: MapSource,
    weights: Mapping[str, NDArray[np.float64]],
    units: Sequence[_Unit] = (),
    map_fn: MapFn = map,
) -> _Plane:
    """Return Σ_j w_0j f_j + Σ_k v_k max(0, b_k + Σ_j w_kj f_j) on the cells of level 0.

    It is float64 [⌈H/4⌉, ⌈W/4⌉].

    Rounded to multiples of 2^-20: machines differ by about 1e-14, which moves a rounded value once
    in a hundred million cells, and then σ by a millionth.

    Args:
        maps: of one image.
        weights: w_kj, float64 [1 + K] by the name of the term.
        units: (v_k, b_k) of the K.
        map_fn: goes through the strips, in any order.

    Raises:
        ValueError: a name is not that of a term, or the maps do not have it.
    """
    if unknown := set(weights) - maps.known:
        raise ValueError(f"there are no terms {sorted(unknown)}")
    of_facts = {name: weights[name] for name in weights if is_fact(name)}
    same = sum(
        (weight * fact_of(maps, name) for name, weight in of_facts.items()),
        start=np.zeros(len(next(iter(weights.values())))),
    )
    weights = {name: weight for name, weight in weights.items() if name not in of_facts}
    finest, *coarser = measured_levels(maps, frozenset(weights), map_fn)
    height, width = (-(-side // CELL) for side in maps.shape)
    joined = np.empty((height, width))

    def strip(top: int) -> None:
        rows = slice(top, min(top + _JOINED, height))
        place = joined[rows]
        above, below, own = _between(rows, coarser[0])
        sums = _sums(coarser, weights, len(same), above, below)
        # One by one: K planes of the finest level would not stay in the cache.
        for k, (unit, sum_) in enumerate(zip([None, *units], sums, strict=True)):
            highest = sum_.max() + same[k] + unit[1] if unit else 0
            if not finest.terms and highest < _DEAD:
                continue
            plane = double(sum_)[own, :width]
            for name, values in finest.terms.items():
                plane += weights[name][k] * values[rows, :width]
            plane += same[k]
            if unit is None:
                place[:] = plane
            else:
                add_unit(place, plane, unit)
        place *= _ROUNDING
        np.rint(place, out=place)
        place *= 1 / _ROUNDING  # exact

    wait_for(map_fn(strip, range(0, height, _JOINED)))
    return joined


def add_unit(total: _Plane, plane: _Plane, unit: _Unit) -> None:
    """Add v max(0, b + plane), and overwrite the plane."""
    weight, bias = unit
    plane += bias
    np.maximum(plane, 0, out=plane)
    plane *= weight
    total += plane


def _sums(
    levels: Sequence[Level],
    weights: Mapping[str, NDArray[np.float64]],
    count: int,
    top: int,
    bottom: int,
) -> _Plane:
    """Σ_j w_kj f_j over these levels on some rows of the first, float64 [K, bottom − top, w]."""
    finest, *coarser = levels
    if coarser:
        # Interpolation is linear, so a level is summed before it is enlarged.
        above, below, own = _between(slice(top, bottom), coarser[0])
        total = double(_sums(coarser, weights, count, above, below))[:, own]
    else:
        total = np.zeros((count, bottom - top, finest.shape[1]))
    for name, values in finest.terms.items():
        total += np.multiply.outer(weights[name], values[top:bottom])
    return total


def _between(rows: slice, coarser: Level) -> tuple[int, int, slice]:
    """The rows of the coarser level that some rows are between, and their place in its double."""
    above, below = max(0, rows.start // 2 - 1), min(rows.stop // 2 + 1, coarser.shape[0])
    return above, below, slice(rows.start - 2 * above, rows.stop - 2 * above)


def assembled(
    shape: tuple[int, int], strips: Callable[[OnRows[None]], Iterable[None]]
) -> NDArray[np.float32]:
    """Return the plane, float32 [H, W], whose rows `strips` passes on."""
    plane = np.empty(shape, np.float32)

    def keep(top: int, rows: NDArray[np.float32]) -> None:
        plane[top : top + len(rows)] = rows

    wait_for(strips(keep))
    return plane


def enlarged_cells(
    cells: _Plane, shape: tuple[int, int], on_rows: OnRows[T], map_fn: MapFn = map
) -> Iterable[T]:
    """Call `on_rows` for the pixels interpolated from cells of level 0, a strip at a time."""

    def strip(top: int) -> T:
        # Two more rows of cells on either side, since pixels are interpolated twice.
        above, below = max(0, top - 2), min(len(cells), top + STRIP + 2)
        first, end = CELL * top, min(CELL * (top + STRIP), shape[0])
        large = double(double(cells[above:below].astype(np.float32)))[first - CELL * above :]
        return on_rows(first, large[: end - first, : shape[1]])

    return map_fn(strip, range(0, len(cells), STRIP))
