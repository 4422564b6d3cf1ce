"""The terms of the fitted σ: logarithms of energies of the samples and of what they add to X.

    log σ(p) = w₀ + Σ_j w_j · f_j(p), or a function of several such sums (`fitted.py`)

Each *term* f_j is the logarithm of a non-negative energy at one level of a pyramid. The cells of
level 0 are 4×4 output pixels, those of each further level twice as wide, up to 512 pixels; a coarse
term is brought to the cells of level 0 by linear interpolation. The energies are

    variance          Σ_c Var_M, the disagreement of the samples; it needs two of them
    residual          E_M Σ_c (μ − E)², what the samples add to E, the enlarged input
    witness           E_M Σ_c (μ − W)², how far they are from W, the witness's answer to that input
    detail            the variance of L within a cell of level 0, of the mean of the samples
    slope, curve      |∇L|² and (ΔL)² of the mean of the samples
    light<b>, color<b>  what the mean image loses in L, and in a and b, by a small blur at level b:
                      its spectrum, octave by octave

Beside them are facts of the input that say how hard it is as a whole, `fact loss` and so on: one
number for all cells each (`FACTS`).

`variance@2` is the logarithm of the mean over a cell of level 2, `log variance@2` the mean of the
logarithm. Why these: where the truth has more detail than any upscaler can return, the samples
often agree on too little of it; how the energy falls from octave to octave tells how much is
missing, and the coarsest levels tell how hard the photograph is as a whole. What the upscaler has
added to its input is what it may have made up, and one sample suffices to see it; where it departs
from a network that hardly invents, the more so.

The module is the formula; weights are a `Fit` (`fitted.py`), and `fitting.py` finds them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float64]

CELL = 4  # output pixels: the neighbourhood of D is as wide, so nothing finer is to be ranked
LEVELS = 8  # the coarsest cell, 4 · 2^7 = 512 pixels, is one whole photograph of the fit
WIDEST = CELL << (LEVELS - 1)
_BANDS = 5  # octaves of light and color
FACTS = ("loss", "lossy", "jpeg", "softness", "noise", "detail")
"""Of the input, as `app/images/facts.py` measures them."""
_FACT = "fact "
_STRIP = 16  # rows of cells that are measured, or summed, together: temporaries stay in cache
_ROUNDING = 1 << 20

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
# Of them, those that are not known of every image; they are fields of `Maps`.
_OPTIONAL = ("variance", "residual", "witness")
_OF_PIXELS = (*_OPTIONAL, "detail", "slope", "curve")

# Levels at which there are terms. Neighbouring levels tell almost the same, so that at the coarser
# ones every second is enough, and fewer yet for the means of logarithms.
_LEVELS_OF_MEANS = (0, 1, 2, 3, 5, 7)
_LEVELS_OF_LOGS = (2, 5, 7)


class Maps(NamedTuple):
    """What the terms are measured on.

    mean: E_M[μ] in normalised Lab, float32 [3, H, W].
    variance: Σ_c Var_M over the channels, float32 [H, W] ≥ 0; None: of a single sample.
    residual: E_M Σ_c (μ − E)² in normalised Lab, float32 [H, W] ≥ 0; None: X is not known.
    witness: the same for W in place of E; None: there is no witness.
    facts: those of `FACTS` of the input; None: they are not known.
    """

    mean: NDArray[np.float32]
    variance: NDArray[np.float32] | None = None
    residual: NDArray[np.float32] | None = None
    witness: NDArray[np.float32] | None = None
    facts: Mapping[str, float] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return self.mean.shape[1], self.mean.shape[2]

    @property
    def known(self) -> frozenset[str]:
        """The names of all terms that can be measured."""
        there = {name for name in _OPTIONAL if getattr(self, name) is not None}
        return known_terms(there, facts=self.facts is not None)

    def rows(self, top: int, bottom: int) -> Maps:
        """Those of some rows."""
        planes = (getattr(self, name) for name in _OPTIONAL)
        return Maps(
            self.mean[:, top:bottom],
            *(None if plane is None else plane[top:bottom] for plane in planes),
        )


class Each(Protocol):
    """Calls a function with every one of some numbers, like `map`, in threads or not."""

    def __call__(self, function: Callable[[int], None], numbers: range, /) -> Iterable[None]: ...


class Measured(Protocol):
    """`Maps` of an image that are made strip by strip, so that they are never there as a whole."""

    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def known(self) -> frozenset[str]: ...
    @property
    def facts(self) -> Mapping[str, float] | None: ...
    def rows(self, top: int, bottom: int) -> Maps: ...


def known_terms(there: Container[str], *, facts: bool) -> frozenset[str]:
    """The names of the terms that can be measured where of `_OPTIONAL` these energies are known."""
    missing = {name for name in _OPTIONAL if name not in there}
    if not facts:
        missing |= {f"{_FACT}{name}" for name in FACTS}
    return frozenset(term for term in term_names() if energy_of(term) not in missing)


class _Level(NamedTuple):
    """The wanted terms of one level by their names, float64 [h, w] each."""

    shape: tuple[int, ...]
    terms: dict[str, Plane]


@cache
def term_names() -> tuple[str, ...]:
    """The names of all terms: facts, and the others from the finest level to the coarsest."""
    of_levels = (f"{name}@{depth}" for depth in range(LEVELS) for name in _names(depth))
    return (*of_levels, *(f"{_FACT}{name}" for name in FACTS))


def energy_of(term: str) -> str:
    """The energy that a term is the logarithm of, without the number of its band; a fact itself."""
    return term.removeprefix("log ").partition("@")[0].rstrip("0123456789")


def _names(depth: int) -> Iterator[str]:
    if depth not in _LEVELS_OF_MEANS:
        return
    bands = range(min(depth + 1, _BANDS))
    for energy in (*_OF_PIXELS, *(f"{kind}{b}" for b in bands for kind in ("light", "color"))):
        yield energy
        # At the level where a band is measured, the mean of one logarithm is the logarithm.
        if depth in _LEVELS_OF_LOGS and not energy.endswith(str(depth)):
            yield f"log {energy}"


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
        (weight * _fact(maps, name) for name, weight in of_facts.items()),
        start=np.zeros(len(next(iter(weights.values())))),
    )
    weights = {name: weight for name, weight in weights.items() if name not in of_facts}
    levels = _pyramid(maps, frozenset(weights), each)
    height, width = (-(-side // CELL) for side in maps.shape)
    joined = np.empty((height, width))

    # K planes of a large level never exist at once.
    def strip(top: int) -> None:
        place = joined[top : min(top + _STRIP, height)]
        sums = _sums(levels, weights, len(same), top, top + len(place))
        place[:] = join(sums + same[:, None, None])[:, :width]
        place *= _ROUNDING
        np.rint(place, out=place)
        place /= _ROUNDING

    _all(each(strip, range(0, height, _STRIP)))
    return joined


def _all(results: Iterable[None]) -> None:
    """Wait for all of them."""
    deque(results, maxlen=0)


def is_fact(term: str) -> bool:
    """Whether a term is one number for the whole image."""
    return term.startswith(_FACT)


def _fact(maps: Measured, term: str) -> float:
    assert maps.facts is not None  # noqa: S101 - it is known
    return maps.facts[term.removeprefix(_FACT)]


def _sums(
    levels: Sequence[_Level],
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
    for depth, level in enumerate(_pyramid(maps, maps.known, map)):
        for name, values in level.terms.items():
            plane = values
            for _ in range(depth):
                plane = double(plane)
            dense[name] = plane[:height, :width].astype(np.float32)
    for name in filter(is_fact, term_names() if maps.facts is not None else ()):
        dense[name] = np.full((height, width), _fact(maps, name), np.float32)
    return dense


def enlarge(cells: Plane, shape: tuple[int, int], each: Each = map) -> NDArray[np.float32]:
    """Cells of level 0 as pixels by linear interpolation, float32 of the shape [H, W]."""
    pixels = np.empty(shape, np.float32)

    def strip(top: int) -> None:
        # Two more rows of cells on either side: a pixel lies between two of them, twice.
        above, below = max(0, top - 2), min(len(cells), top + _STRIP + 2)
        large = double(double(cells[above:below].astype(np.float32)))[CELL * (top - above) :]
        place = pixels[CELL * top : CELL * (top + _STRIP)]
        place[:] = large[: len(place), : shape[1]]

    _all(each(strip, range(0, len(cells), _STRIP)))
    return pixels


def double(plane: NDArray[Any]) -> NDArray[Any]:
    """Twice as high and wide by linear interpolation between the centres, float [..., h, w]."""
    *planes, height, width = plane.shape
    near = 3 * plane
    tall = np.empty((*planes, 2 * height, width), plane.dtype)
    tall[..., ::2, :] = near + np.concatenate([plane[..., :1, :], plane[..., :-1, :]], axis=-2)
    tall[..., 1::2, :] = near + np.concatenate([plane[..., 1:, :], plane[..., -1:, :]], axis=-2)
    near = 3 * tall
    large = np.empty((*planes, 2 * height, 2 * width), plane.dtype)
    large[..., ::2] = near + np.concatenate([tall[..., :1], tall[..., :-1]], axis=-1)
    large[..., 1::2] = near + np.concatenate([tall[..., 1:], tall[..., -1:]], axis=-1)
    large /= 16  # exact
    return large


def _pyramid(maps: Measured, wanted: frozenset[str], each: Each) -> list[_Level]:
    """The levels from fine to coarse; what no wanted term needs is not measured."""
    energies = {name.partition("@")[0].removeprefix("log ") for name in wanted}
    color, measured = _cells(maps, energies, each)
    height, width = color.shape[1:]
    terms: dict[str, Plane] = {}
    # One energy after the other: on the finest level each is large.
    for name in list(measured):
        terms |= _terms_of(name, measured.pop(name), 0, wanted)
    for depth in range(_BANDS):
        if depth:
            color = _halve(color)
        if (name := f"light{depth}") in energies:
            terms |= _terms_of(name, lost_by_a_blur(color[0]), depth, wanted)
        if (name := f"color{depth}") in energies:
            lost = lost_by_a_blur(color[1])
            lost += lost_by_a_blur(color[2])
            terms |= _terms_of(name, lost, depth, wanted)
    return [
        _Level(
            (height >> depth, width >> depth),
            {full: terms[full] for name in _names(depth) if (full := f"{name}@{depth}") in wanted},
        )
        for depth in range(LEVELS)
    ]


def _terms_of(name: str, energy: Plane, depth: int, wanted: frozenset[str]) -> dict[str, Plane]:
    """The wanted terms of one energy, from the level on that it is measured at.

    No mean of logarithms is a term of that very level.
    """
    terms = {}
    logarithm: Plane | None = None
    has_logs = any(full.startswith(f"log {name}@") for full in wanted)
    while True:
        if (full := f"{name}@{depth}") in wanted:
            terms[full] = _log(name, energy)
        if logarithm is not None and (full := f"log {name}@{depth}") in wanted:
            terms[full] = logarithm
        depth += 1
        if depth == LEVELS:
            return terms
        if has_logs:
            logarithm = _halve(_log(name, energy) if logarithm is None else logarithm)
        energy = _halve(energy)


def _cells(maps: Measured, wanted: set[str], each: Each) -> tuple[Plane, dict[str, Plane]]:
    """Mean colour [3, h, w] and energies [h, w] of the cells of level 0.

    Borders are reflected, first to whole cells, then to whole cells of the coarsest level.
    """
    tall, wide = (-side % CELL for side in maps.shape)
    # Where each row of the padded image lies in the image, with one more at each end.
    places = np.pad(np.arange(maps.shape[0]), (1, 1 + tall), mode="symmetric")
    height, width = (-(-side // CELL) for side in maps.shape)
    coarsest = 1 << (LEVELS - 1)
    whole = tuple(-(-side // coarsest) * coarsest for side in (height, width))
    measures = {name: np.empty(whole) for name in _OF_PIXELS if name in wanted}
    color = np.empty((3, *whole))
    rows = _STRIP * CELL

    def measure(top: int) -> None:
        here = slice(top // CELL, min(top // CELL + _STRIP, height)), slice(width)
        place = places[top : top + rows + 2]
        first = int(place.min())
        strip = maps.rows(first, int(place.max()) + 1)
        place = place - first
        lightness = strip.mean[0, place]
        around = np.pad(lightness, [(0, 0), (1, 1 + wide)], mode="symmetric")
        inner = [_padded(plane[place[1:-1]], [(0, 0), (0, wide)]) for plane in strip.mean]
        for whole_of, channel in zip(color, inner, strict=True):
            whole_of[here] = _means(channel)
        middle = around[1:-1, 1:-1]
        right, below = around[1:-1, 2:] - middle, around[2:, 1:-1] - middle
        if "detail" in measures:
            exact = middle.astype(np.float64)
            measures["detail"][here] = np.maximum(_means(exact**2) - _means(exact) ** 2, 0)
        if "slope" in measures:
            measures["slope"][here] = _means(right**2 + below**2)
        if "curve" in measures:
            laplacian = right + below + (around[1:-1, :-2] - middle) + (around[:-2, 1:-1] - middle)
            measures["curve"][here] = _means(laplacian**2)
        for name in _OPTIONAL:
            plane = getattr(strip, name)
            if name in measures and plane is not None:
                padded = _padded(plane[place[1:-1]], [(0, 0), (0, wide)])
                measures[name][here] = _means(padded)

    _all(each(measure, range(0, len(places) - 2, rows)))
    for plane in (*color, *measures.values()):
        _reflect(plane, height, width)
    return color, measures


def _means(values: NDArray[Any]) -> Plane:
    """Means of the cells, float64 [H/4, W/4]. Slices are added one by one: the order is fixed."""
    tall = np.zeros((len(values) // CELL, values.shape[1]))
    for row in range(CELL):
        tall += values[row::CELL]
    cells = np.zeros((len(tall), values.shape[1] // CELL))
    for column in range(CELL):
        cells += tall[:, column::CELL]
    return cells / CELL**2


def _reflect(plane: Plane, height: int, width: int) -> None:
    """Fill a plane of which so many rows and columns are known, by reflecting those."""
    rows, columns = (
        np.pad(np.arange(known), (0, side - known), mode="symmetric")
        for known, side in zip((height, width), plane.shape, strict=True)
    )
    plane[height:, :width] = plane[rows[height:], :width]
    plane[:, width:] = plane[:, columns[width:]]


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
    return np.asarray((tall[..., ::2] + tall[..., 1::2]) / 4)
