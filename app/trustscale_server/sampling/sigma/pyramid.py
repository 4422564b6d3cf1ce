"""The pyramid of cells that the terms of a fitted σ are measured on (`features.py`).

Level 0 has cells of 4×4 output pixels, each further level cells twice as wide, the mean of four.
Energies of the pixels are measured strip by strip, the spectrum of the colours level by level.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trustscale_server.sampling.sigma.features import (
    CELL,
    DEPTHS,
    OCTAVES,
    OF_PIXELS,
    OPTIONAL,
    STRIP,
    MapFn,
    MapSource,
    fact_of,
    is_fact,
    names_at,
    term_names,
    wait_for,
)

_Plane = NDArray[np.float64]

# A Gaussian of one cell, cut at four, and the rows that are blurred at once.
_RADIUS, _ROWS = 4, 32
_BLUR = np.exp(-0.5 * np.arange(-_RADIUS, _RADIUS + 1) ** 2)
_BLUR /= _BLUR.sum()

# Below these, energies are rounding noise of 8-bit samples.
_FLOORS = {
    "variance": 1e-9,
    "residual": 1e-8,
    "detail": 1e-7,
    "slope": 1e-7,
    "curve": 1e-7,
    "light": 1e-7,
    # That of photographs with little colour, so that exactly grey ones do not lie outside the fit.
    "color": 1e-5,
}


class Level(NamedTuple):
    """The wanted terms of one level by their names, float64 [h, w] each."""

    shape: tuple[int, ...]
    terms: dict[str, _Plane]


class _Energy(NamedTuple):
    """An energy from the finest level on that it has terms at.

    plane: its means over the cells of that level, float64 [h, w].
    logs: means of its logarithms over the same cells; None: that is the logarithm itself.
    """

    depth: int
    plane: _Plane
    logs: _Plane | None = None


def measured_levels(maps: MapSource, needed: frozenset[str], map_fn: MapFn) -> list[Level]:
    """Return the levels from fine to coarse, with what the wanted terms need."""
    color, measured = _cells(maps, needed, map_fn)
    height, width = color[0].shape
    terms: dict[str, _Plane] = {}
    # One by one: on the finest level each is large.
    for name in list(measured):
        terms |= _terms_of(name, measured.pop(name), needed)
    energies = _energies(needed)
    for depth in range(OCTAVES):
        if depth:
            color = [_halve(plane) for plane in color]
        if (name := f"light{depth}") in energies:
            terms |= _terms_of(name, _Energy(depth, lost_by_a_blur(color[0])), needed)
        if (name := f"color{depth}") in energies:
            lost = lost_by_a_blur(color[1])
            lost += lost_by_a_blur(color[2])
            terms |= _terms_of(name, _Energy(depth, lost), needed)
    return [
        Level(
            (height >> depth, width >> depth),
            {
                full: terms[full]
                for name in names_at(depth)
                if (full := f"{name}@{depth}") in needed
            },
        )
        for depth in range(DEPTHS)
    ]


def dense_terms(maps: MapSource) -> dict[str, NDArray[np.float32]]:
    """Return every known term on the cells of level 0, float32 [⌈H/4⌉, ⌈W/4⌉] each."""
    height, width = (-(-side // CELL) for side in maps.shape)
    terms = dense(measured_levels(maps, maps.known, map), (height, width))
    for name in filter(is_fact, term_names() if maps.facts is not None else ()):
        terms[name] = np.full((height, width), fact_of(maps, name), np.float32)
    return terms


def dense(levels: Iterable[Level], shape: tuple[int, int]) -> dict[str, NDArray[np.float32]]:
    """Return the terms of a pyramid, from the finest level on, on the first cells."""
    height, width = shape
    terms = {}
    for depth, level in enumerate(levels):
        for name, values in level.terms.items():
            plane = values
            for _ in range(depth):
                plane = double(plane)
            terms[name] = plane[:height, :width].astype(np.float32)
    return terms


def double(plane: NDArray[Any]) -> NDArray[Any]:
    """Double height and width of float [..., h, w] by linear interpolation of centres."""
    *planes, height, width = plane.shape
    plane = plane * plane.dtype.type(1 / 16)  # exact
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
    return large


def _energies(needed: Iterable[str]) -> set[str]:
    return {name.partition("@")[0].removeprefix("log ") for name in needed}


def _has_logs(name: str, needed: Iterable[str]) -> bool:
    return any(full.startswith(f"log {name}@") for full in needed)


def _terms_of(name: str, energy: _Energy, needed: frozenset[str]) -> dict[str, _Plane]:
    terms = {}
    depth, plane, logs = energy
    has_logs = _has_logs(name, needed)
    while True:
        if (full := f"{name}@{depth}") in needed:
            terms[full] = _log(name, plane)
        if logs is not None and (full := f"log {name}@{depth}") in needed:
            terms[full] = logs
        depth += 1
        if depth == DEPTHS:
            return terms
        if has_logs:
            logs = _halve(_log(name, plane) if logs is None else logs)
        plane = _halve(plane)


class _Growing:
    """An energy of the pixels while it is measured, some rows of cells at a time.

    Cells of level 0 are kept only for terms of them: they take half a byte per pixel and energy,
    those of level 1 an eighth.
    """

    def __init__(self, name: str, needed: frozenset[str], shape: tuple[int, int]) -> None:
        self._name = name
        self._depth = 0 if f"{name}@0" in needed else 1
        size = tuple(-(-side >> self._depth) for side in shape)
        self._plane = np.empty(size)
        self._logs = np.empty(size) if self._depth and _has_logs(name, needed) else None

    def put(self, top: int, cells: _Plane) -> None:
        """Cells of level 0 from the row `top` on, which is even."""
        if self._depth == 0:
            self._plane[top : top + len(cells)] = cells
            return
        # The border is reflected: the last of an odd number of cells counts twice.
        cells = _padded(cells, [(0, side % 2) for side in cells.shape])
        here = slice(top // 2, top // 2 + len(cells) // 2)
        self._plane[here] = _halve(cells)
        if self._logs is not None:
            self._logs[here] = _halve(_log(self._name, cells))

    def done(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> _Energy:
        """The energy; rows and columns: those of the measured level 0 in the reflected one."""
        if self._depth:
            rows, columns = rows[::2] // 2, columns[::2] // 2
        logs = None if self._logs is None else _reflected(self._logs, rows, columns)
        return _Energy(self._depth, _reflected(self._plane, rows, columns), logs)


def _cells(
    maps: MapSource, needed: frozenset[str], map_fn: MapFn
) -> tuple[list[_Plane], dict[str, _Energy]]:
    """Mean L, a and b of the cells of level 0, and the wanted energies of the pixels.

    Borders are reflected, first to whole cells, then to whole cells of the coarsest level.
    """
    tall, wide = (-side % CELL for side in maps.shape)
    # The place in the image of each row of the padded image, with one more at each end.
    places = np.pad(np.arange(maps.shape[0]), (1, 1 + tall), mode="symmetric")
    beyond = int(np.pad(np.arange(maps.shape[1]), (0, 1 + wide), mode="symmetric")[-1])
    height, width = (-(-side // CELL) for side in maps.shape)
    measures = {
        name: _Growing(name, needed, (height, width))
        for name in OF_PIXELS
        if name in _energies(needed)
    }
    color = [np.empty((height, width)) for _ in range(3)]
    rows = STRIP * CELL

    def measure(top: int) -> None:
        first_cell = top // CELL
        here = slice(first_cell, min(first_cell + STRIP, height))
        place = places[top : top + rows + 2]
        first = int(place.min())
        strip = maps.rows(first, int(place.max()) + 1)
        place = place - first
        inner = place[1:-1]

        def of_cells(plane: NDArray[Any], rows: NDArray[np.int64] = inner) -> NDArray[Any]:
            return _padded(_at(plane, rows), [(0, 0), (0, wide)])

        for whole_of, plane in zip(color, strip.mean, strict=True):
            whole_of[here] = _means(of_cells(plane))
        lightness = of_cells(strip.mean[0])
        energies: dict[str, _Plane] = {}
        if "detail" in measures:
            squares = _means(np.square(lightness, dtype=np.float64))
            energies["detail"] = np.maximum(squares - color[0][here] ** 2, 0)
        right = np.empty_like(lightness)
        np.subtract(lightness[:, 1:], lightness[:, :-1], out=right[:, :-1])
        np.subtract(lightness[:, beyond], lightness[:, -1], out=right[:, -1])
        around = of_cells(strip.mean[0], place)
        below = around[1:] - around[:-1]
        if "slope" in measures:
            energies["slope"] = _means(right**2 + below[1:] ** 2)
        if "curve" in measures:
            # Minus what the pixels left and above differ by; at the border nothing.
            curve = right + below[1:]
            curve[:, 1:] -= right[:, :-1]
            curve -= below[:-1]
            energies["curve"] = _means(curve**2)
        for name in OPTIONAL:
            plane = getattr(strip, name)
            if name in measures and plane is not None:
                energies[name] = _means(of_cells(plane))
        for name, cells in energies.items():
            measures[name].put(first_cell, cells)

    wait_for(map_fn(measure, range(0, len(places) - 2, rows)))
    maps.release()
    coarsest = 1 << (DEPTHS - 1)
    mapped = [
        np.pad(np.arange(side), (0, -side % coarsest), mode="symmetric") for side in (height, width)
    ]
    # One by one, since each copy is as large.
    color = [_reflected(color.pop(0), *mapped) for _ in range(3)]
    return color, {name: measures.pop(name).done(*mapped) for name in list(measures)}


def _at(plane: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """These rows of a plane; a view if each follows the last."""
    first, last = int(rows[0]), int(rows[-1])
    return plane[first : last + 1] if last - first == len(rows) - 1 else plane[rows]


def _reflected(plane: _Plane, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> _Plane:
    """These rows and columns of a plane; itself if they are all."""
    if plane.shape == (len(rows), len(columns)):
        return plane
    return plane[np.ix_(rows, columns)]


def _means(values: NDArray[Any]) -> _Plane:
    """Means of the cells, float64 [H/4, W/4]; slices are added one by one, in fixed order."""
    tall = values[::CELL].astype(np.float64)
    for row in range(1, CELL):
        tall += values[row::CELL]
    cells = tall[:, ::CELL].copy()
    for column in range(1, CELL):
        cells += tall[:, column::CELL]
    cells *= 1 / CELL**2  # exact
    return cells


def _padded(plane: NDArray[Any], sides: list[tuple[int, int]]) -> NDArray[Any]:
    """The plane reflected at its ends by the widths of `sides`, or itself, not a copy."""
    if not any(map(any, sides)):
        return plane
    return np.pad(plane, sides, mode="symmetric")


def _log(name: str, energy: _Plane) -> _Plane:
    logs = energy + _FLOORS[name.rstrip("0123456789")]
    return np.asarray(np.log(logs, out=logs))


def lost_by_a_blur(plane: _Plane) -> _Plane:
    """Return squares of what a Gaussian blur of one cell removes, bit for bit as scipy's."""
    height, width = plane.shape
    padded = np.pad(plane, _RADIUS, mode="symmetric")
    lost = np.empty_like(plane)
    for top in range(0, height, _ROWS):
        count = min(_ROWS, height - top)
        tall = _weighted([padded[top + k : top + k + count] for k in range(len(_BLUR))])
        wide = _weighted([tall[:, k : k + width] for k in range(len(_BLUR))])
        np.subtract(plane[top : top + count], wide, out=lost[top : top + count])
    lost *= lost
    return lost


def _weighted(shifted: Sequence[_Plane]) -> _Plane:
    """The sum of planes by the weights of `_BLUR`; each two of equal weight are added first."""
    total = shifted[_RADIUS] * _BLUR[_RADIUS]
    for k in range(_RADIUS):
        pair = shifted[k] + shifted[-1 - k]
        pair *= _BLUR[k]
        total += pair
    return np.asarray(total)


def _halve(plane: _Plane) -> _Plane:
    """Means of 2×2 cells, of float64 [..., h, w] with even sides."""
    tall = plane[..., ::2, :] + plane[..., 1::2, :]
    return np.asarray((tall[..., ::2] + tall[..., 1::2]) * 0.25)
