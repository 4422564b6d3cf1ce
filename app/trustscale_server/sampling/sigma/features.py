"""The features of the fitted σ: logarithms of energies of the samples and of what they add to X.

    log σ(p) = w₀ + Σ_j w_j · f_j(p), or a function of several such sums (`estimators.Fit`)

Each *term* f_j is the logarithm of a non-negative energy at one level of a pyramid. The cells of
level 0 are 4×4 output pixels, those of each further level twice as wide, up to 512 pixels; a coarse
term is interpolated linearly to the cells of level 0. The energies are

    variance          Σ_c Var_M, the disagreement of the samples; it needs two of them
    residual          E_M Σ_c (μ − E)², what the samples add to E, the enlarged input
    detail            the variance of L within a cell of level 0, of the mean of the samples
    slope, curve      |∇L|² and (ΔL)² of the mean of the samples
    light<b>, color<b>  what the mean image loses in L, and in a and b, by a small blur at level b:
                      its spectrum, octave by octave

and facts of the input, `fact loss` and so on: one number for all cells each (`FACTS`). `variance@2`
is the logarithm of the mean over a cell of level 2, `log variance@2` the mean of the logarithm.

Where the truth has more detail than any upscaler can return, samples often agree on too little; the
fall of the energy from octave to octave shows how much is missing, the coarsest levels how hard the
photograph is. What the upscaler adds may be invented; one sample shows it.

The weights are an `estimators.Fit`, which `fitting.py` finds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

_Plane = NDArray[np.float64]
T = TypeVar("T")

CELL = 4  # output pixels, as wide as the neighbourhood of D
DEPTHS = 8  # the coarsest cell, 512 pixels, is a whole photograph of the fit
_BANDS = 5  # octaves of light and color
_STRIP = 16  # rows of cells at once: temporaries stay in the cache
FACTS = ("loss", "lossy", "jpeg", "softness", "noise", "detail")
"""Of the input, as `images/features.py` measures them."""
_FACT = "fact "

# Fields of `Maps` that some images lack.
_OPTIONAL = ("variance", "residual")
_OF_PIXELS = (*_OPTIONAL, "detail", "slope", "curve")

# Levels with terms. Coarse neighbours are almost alike, means of logarithms the more so.
_LEVELS_OF_MEANS = (0, 1, 2, 3, 5, 7)
_LEVELS_OF_LOGS = (2, 5, 7)

_Unit: TypeAlias = tuple[float, float]
"""v and b of what bends: v max(0, b + …)."""

_ROUNDING = 1 << 20
_JOINED = 4 * _STRIP  # rows of the finest level that are summed at once

# A unit below this at all cells of the coarser level is so at the cells between them, whatever is
# rounded: it adds nothing.
_DEAD = -1e-3

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


class Maps(NamedTuple):
    """What the terms are measured on.

    mean: E_M[μ] in normalised Lab, float32 [3, H, W].
    variance: Σ_c Var_M over the channels, float32 [H, W] ≥ 0; None: of a single sample.
    residual: E_M Σ_c (μ − E)² in normalised Lab, float32 [H, W] ≥ 0; None: X is unknown.
    facts: those of `FACTS` of the input, if known.
    """

    mean: NDArray[np.float32]
    variance: NDArray[np.float32] | None = None
    residual: NDArray[np.float32] | None = None
    facts: Mapping[str, float] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """The (H, W) of the image."""
        return self.mean.shape[1], self.mean.shape[2]

    @property
    def known(self) -> frozenset[str]:
        """The names of all terms that can be measured."""
        there = {name for name in _OPTIONAL if getattr(self, name) is not None}
        return known_terms(there, facts=self.facts is not None)

    def rows(self, top: int, bottom: int) -> Maps:
        """Return the maps of some rows."""
        planes = (getattr(self, name) for name in _OPTIONAL)
        return Maps(
            self.mean[:, top:bottom],
            *(None if plane is None else plane[top:bottom] for plane in planes),
        )

    def release(self) -> None:
        """Do nothing, since others hold these maps."""


class MapFn(Protocol):
    """A function like `map` over some numbers, in threads or not."""

    def __call__(self, function: Callable[[int], T], numbers: range, /) -> Iterable[T]: ...


OnRows = Callable[[int, NDArray[np.float32]], T]
"""Gets some rows of a plane, and the number of the first of them."""


class MapSource(Protocol):
    """`Maps` of an image that are made strip by strip, and never whole."""

    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def known(self) -> frozenset[str]: ...
    @property
    def facts(self) -> Mapping[str, float] | None: ...
    def rows(self, top: int, bottom: int) -> Maps: ...
    def release(self) -> None:
        """Free the maps: all terms are measured, and no more rows are needed."""


def known_terms(there: Container[str], *, facts: bool) -> frozenset[str]:
    """Return the names of the terms that these energies of `_OPTIONAL` allow."""
    missing = {name for name in _OPTIONAL if name not in there}
    if not facts:
        missing |= {f"{_FACT}{name}" for name in FACTS}
    return frozenset(term for term in term_names() if energy_of(term) not in missing)


@cache
def term_names() -> tuple[str, ...]:
    """Return the names of all terms: facts, then the others from fine to coarse."""
    of_levels = (f"{name}@{depth}" for depth in range(DEPTHS) for name in names_at(depth))
    return (*of_levels, *(f"{_FACT}{name}" for name in FACTS))


def energy_of(term: str) -> str:
    """Return the energy whose logarithm a term is, without its band; a fact is itself."""
    return term.removeprefix("log ").partition("@")[0].rstrip("0123456789")


def names_at(depth: int) -> Iterator[str]:
    """Return the names of the terms of one level, without its number."""
    if depth not in _LEVELS_OF_MEANS:
        return
    bands = range(min(depth + 1, _BANDS))
    for energy in (*_OF_PIXELS, *(f"{kind}{b}" for b in bands for kind in ("light", "color"))):
        yield energy
        # Where a band is measured, the mean of one logarithm is the logarithm.
        if depth in _LEVELS_OF_LOGS and not energy.endswith(str(depth)):
            yield f"log {energy}"


def is_fact(term: str) -> bool:
    """Return whether a term is one number for the whole image."""
    return term.startswith(_FACT)


def fact_of(maps: MapSource, term: str) -> float:
    """Return the value of a term that is a fact."""
    assert maps.facts is not None  # noqa: S101 - it is known
    return maps.facts[term.removeprefix(_FACT)]


def wait_for(results: Iterable[None]) -> None:
    """Wait for all of these futures."""
    deque(results, maxlen=0)


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
    finest, *coarser = pyramid(maps, frozenset(weights), map_fn)
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


def dense_terms(maps: MapSource) -> dict[str, NDArray[np.float32]]:
    """Return every known term on the cells of level 0, float32 [⌈H/4⌉, ⌈W/4⌉] each."""
    height, width = (-(-side // CELL) for side in maps.shape)
    terms = dense(pyramid(maps, maps.known, map), (height, width))
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
        above, below = max(0, top - 2), min(len(cells), top + _STRIP + 2)
        first, end = CELL * top, min(CELL * (top + _STRIP), shape[0])
        large = double(double(cells[above:below].astype(np.float32)))[first - CELL * above :]
        return on_rows(first, large[: end - first, : shape[1]])

    return map_fn(strip, range(0, len(cells), _STRIP))


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


def pyramid(maps: MapSource, needed: frozenset[str], map_fn: MapFn) -> list[Level]:
    """Return the levels from fine to coarse, with what the wanted terms need."""
    color, measured = _cells(maps, needed, map_fn)
    height, width = color[0].shape
    terms: dict[str, _Plane] = {}
    # One by one: on the finest level each is large.
    for name in list(measured):
        terms |= _terms_of(name, measured.pop(name), needed)
    energies = _energies(needed)
    for depth in range(_BANDS):
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
        for name in _OF_PIXELS
        if name in _energies(needed)
    }
    color = [np.empty((height, width)) for _ in range(3)]
    rows = _STRIP * CELL

    def measure(top: int) -> None:
        first_cell = top // CELL
        here = slice(first_cell, min(first_cell + _STRIP, height))
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
        for name in _OPTIONAL:
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
    """The plane reflected by so much at its ends, or itself, not a copy."""
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
