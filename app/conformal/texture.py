"""The energies that the terms of the fitted σ (`terms.py`) are logarithms of, level by level."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.conformal.terms import (
    BANDS,
    CELL,
    LEVELS,
    OF_PIXELS,
    OPTIONAL,
    STRIP,
    Each,
    Measured,
    Plane,
    names_at,
    wait_for,
)

# A Gaussian of one cell, cut at four, and the rows that are blurred together.
_RADIUS, _ROWS = 4, 32
_BLUR = np.exp(-0.5 * np.arange(-_RADIUS, _RADIUS + 1) ** 2)
_BLUR /= _BLUR.sum()

# Where the logarithm starts: below these, energies are rounding noise of 8-bit samples.
_FLOORS = {
    "variance": 1e-9,
    "residual": 1e-8,
    "witness": 1e-8,
    "detail": 1e-7,
    "slope": 1e-7,
    "curve": 1e-7,
    "light": 1e-7,
    "color": 1e-8,
}


class Level(NamedTuple):
    """The wanted terms of one level by their names, float64 [h, w] each."""

    shape: tuple[int, ...]
    terms: dict[str, Plane]


class _Energy(NamedTuple):
    """An energy from the finest level on that it has terms at.

    plane: its means over the cells of that level, float64 [h, w].
    logs: means of its logarithms over the same cells; None: that would be the logarithm itself.
    """

    depth: int
    plane: Plane
    logs: Plane | None = None


def pyramid(maps: Measured, wanted: frozenset[str], each: Each) -> list[Level]:
    """The levels from fine to coarse; what no wanted term needs is not measured."""
    color, measured = _cells(maps, wanted, each)
    height, width = color[0].shape
    terms: dict[str, Plane] = {}
    # One energy after the other: on the finest level each is large.
    for name in list(measured):
        terms |= _terms_of(name, measured.pop(name), wanted)
    energies = _energies(wanted)
    for depth in range(BANDS):
        if depth:
            color = [_halve(plane) for plane in color]
        if (name := f"light{depth}") in energies:
            terms |= _terms_of(name, _Energy(depth, lost_by_a_blur(color[0])), wanted)
        if (name := f"color{depth}") in energies:
            lost = lost_by_a_blur(color[1])
            lost += lost_by_a_blur(color[2])
            terms |= _terms_of(name, _Energy(depth, lost), wanted)
    return [
        Level(
            (height >> depth, width >> depth),
            {
                full: terms[full]
                for name in names_at(depth)
                if (full := f"{name}@{depth}") in wanted
            },
        )
        for depth in range(LEVELS)
    ]


def _energies(wanted: Iterable[str]) -> set[str]:
    """The names of the energies that some terms are of."""
    return {name.partition("@")[0].removeprefix("log ") for name in wanted}


def _has_logs(name: str, wanted: Iterable[str]) -> bool:
    return any(full.startswith(f"log {name}@") for full in wanted)


def _terms_of(name: str, energy: _Energy, wanted: frozenset[str]) -> dict[str, Plane]:
    """The wanted terms of one energy."""
    terms = {}
    depth, plane, logs = energy
    has_logs = _has_logs(name, wanted)
    while True:
        if (full := f"{name}@{depth}") in wanted:
            terms[full] = _log(name, plane)
        if logs is not None and (full := f"log {name}@{depth}") in wanted:
            terms[full] = logs
        depth += 1
        if depth == LEVELS:
            return terms
        if has_logs:
            logs = _halve(_log(name, plane) if logs is None else logs)
        plane = _halve(plane)


class _Growing:
    """An energy of the pixels while it is measured, some rows of cells after the others.

    Cells of level 0 are kept only where there is a term of them: they take half a byte of memory
    per pixel and energy, those of level 1 an eighth.
    """

    def __init__(self, name: str, wanted: frozenset[str], shape: tuple[int, int]) -> None:
        self._name = name
        self._depth = 0 if f"{name}@0" in wanted else 1
        size = tuple(-(-side >> self._depth) for side in shape)
        self._plane = np.empty(size)
        self._logs = np.empty(size) if self._depth and _has_logs(name, wanted) else None

    def put(self, top: int, cells: Plane) -> None:
        """Cells of level 0 from the row `top` on, which is even."""
        if self._depth == 0:
            self._plane[top : top + len(cells)] = cells
            return
        # The border is reflected: a cell at the end of an odd number stands twice.
        cells = _padded(cells, [(0, side % 2) for side in cells.shape])
        here = slice(top // 2, top // 2 + len(cells) // 2)
        self._plane[here] = _halve(cells)
        if self._logs is not None:
            self._logs[here] = _halve(_log(self._name, cells))

    def done(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> _Energy:
        """All of it; where rows and columns of the reflected level 0 lie in the measured one."""
        if self._depth:
            rows, columns = rows[::2] // 2, columns[::2] // 2
        logs = None if self._logs is None else _reflected(self._logs, rows, columns)
        return _Energy(self._depth, _reflected(self._plane, rows, columns), logs)


def _cells(
    maps: Measured, wanted: frozenset[str], each: Each
) -> tuple[list[Plane], dict[str, _Energy]]:
    """Mean L, a and b of the cells of level 0, and the wanted energies of the pixels.

    Borders are reflected, first to whole cells, then to whole cells of the coarsest level.
    """
    tall, wide = (-side % CELL for side in maps.shape)
    # Where each row of the padded image lies in the image, with one more at each end.
    places = np.pad(np.arange(maps.shape[0]), (1, 1 + tall), mode="symmetric")
    height, width = (-(-side // CELL) for side in maps.shape)
    measures = {
        name: _Growing(name, wanted, (height, width))
        for name in OF_PIXELS
        if name in _energies(wanted)
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
        lightness = strip.mean[0, place]
        around = np.pad(lightness, [(0, 0), (1, 1 + wide)], mode="symmetric")
        for whole_of, plane in zip(color, strip.mean, strict=True):
            whole_of[here] = _means(_padded(plane[place[1:-1]], [(0, 0), (0, wide)]))
        middle = around[1:-1, 1:-1]
        right, below = around[1:-1, 2:] - middle, around[2:, 1:-1] - middle
        found: dict[str, Plane] = {}
        if "detail" in measures:
            squares = _means(np.square(middle, dtype=np.float64))
            found["detail"] = np.maximum(squares - color[0][here] ** 2, 0)
        if "slope" in measures:
            found["slope"] = _means(right**2 + below**2)
        if "curve" in measures:
            right += below
            right += around[1:-1, :-2] - middle
            right += around[:-2, 1:-1] - middle
            found["curve"] = _means(right**2)
        for name in OPTIONAL:
            plane = getattr(strip, name)
            if name in measures and plane is not None:
                found[name] = _means(_padded(plane[place[1:-1]], [(0, 0), (0, wide)]))
        for name, cells in found.items():
            measures[name].put(first_cell, cells)

    wait_for(each(measure, range(0, len(places) - 2, rows)))
    maps.let_go()
    coarsest = 1 << (LEVELS - 1)
    mapped = [
        np.pad(np.arange(side), (0, -side % coarsest), mode="symmetric") for side in (height, width)
    ]
    # One after the other, since a copy takes as much again.
    color = [_reflected(color.pop(0), *mapped) for _ in range(3)]
    return color, {name: measures.pop(name).done(*mapped) for name in list(measures)}


def _reflected(plane: Plane, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Plane:
    """A plane with these of its rows and columns; itself where that is all of it."""
    if plane.shape == (len(rows), len(columns)):
        return plane
    return plane[np.ix_(rows, columns)]


def _means(values: NDArray[Any]) -> Plane:
    """Means of the cells, float64 [H/4, W/4]. Slices are added one by one: the order is fixed."""
    tall = values[::CELL].astype(np.float64)
    for row in range(1, CELL):
        tall += values[row::CELL]
    cells = tall[:, ::CELL].copy()
    for column in range(1, CELL):
        cells += tall[:, column::CELL]
    cells *= 1 / CELL**2  # exact
    return cells


def _padded(plane: NDArray[Any], sides: list[tuple[int, int]]) -> NDArray[Any]:
    """The plane reflected by so much at its ends; itself, not a copy, where that is nothing."""
    if not any(map(any, sides)):
        return plane
    return np.pad(plane, sides, mode="symmetric")


def _log(name: str, energy: Plane) -> Plane:
    found = energy + _FLOORS[name.rstrip("0123456789")]
    return np.asarray(np.log(found, out=found))


def lost_by_a_blur(plane: Plane) -> Plane:
    """Squares of what a Gaussian blur of one cell takes away, in the bits of scipy's blur."""
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


def _weighted(shifted: Sequence[Plane]) -> Plane:
    """The sum of planes by the weights of `_BLUR`; each two of equal weight are added first."""
    total = shifted[_RADIUS] * _BLUR[_RADIUS]
    for k in range(_RADIUS):
        pair = shifted[k] + shifted[-1 - k]
        pair *= _BLUR[k]
        total += pair
    return np.asarray(total)


def _halve(plane: Plane) -> Plane:
    """Means of 2×2 cells, of float64 [..., h, w] with even sides."""
    tall = plane[..., ::2, :] + plane[..., 1::2, :]
    return np.asarray((tall[..., ::2] + tall[..., 1::2]) * 0.25)
