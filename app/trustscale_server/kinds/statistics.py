"""The description of a picture: about twenty numbers of each tile, over all of the picture.

Whatever happened to a picture, it left its trace in how strongly neighbouring pixels differ: across
one, two and four pixels, in the luma and in the chroma, along and across, evenly or with a period.
The quantiles over the tiles describe the picture, so that a region that is unlike the others counts
(an enlarged photograph in a collage, a caption). They do not say what a picture shows: the learned
table of `kinds.py` says what the numbers mean.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from trustscale_server.kinds.resaved import GRID
from trustscale_server.pixels.lab import LUMA

_Tiles: TypeAlias = NDArray[np.float32]
"""Planes of tiles, float32 [tiles, h, w]."""

_Energies: TypeAlias = NDArray[np.float64]
"""A number of each tile, [tiles]."""

TILE: Final = 32  # pixels; a multiple of the blocks of JPEG
MAX_TILES: Final = 400  # that are described, evenly over the picture
_SMALL: Final = 4 * TILE  # as wide as the inputs that the table was learned from
_QUANTILES: Final = (0.1, 0.5, 0.9)
MIN_ENERGY: Final = 0.05  # of differences, as rounding to 8 bits leaves
_TO_YCC: Final = np.array([LUMA, [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]], np.float32)
_PERIODS: Final = (8, 4, 3, 2)  # of blocks of files, and of interpolation
_MIN_PROFILE: Final = 24  # pixels, a multiple of all periods


def tiles_of(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return at most `MAX_TILES` whole tiles of a picture, or all of a small one.

    Quantiles over few tiles say little, so tiles of pictures with a side below `_SMALL` overlap.
    """
    height, width = (min(TILE, side) for side in rgb.shape[:2])
    step = TILE if min(rgb.shape[:2]) >= _SMALL else GRID  # where tiles begin
    places = sliding_window_view(rgb, (height, width), (0, 1))[::step, ::step]
    tiles = np.moveaxis(places, 2, 4).reshape(-1, height, width, 3)
    return tiles[:: -(-len(tiles) // MAX_TILES)]


def describe(rgb: NDArray[np.uint8]) -> dict[str, float]:
    """Return the numbers of a picture, uint8 [h, w, 3]; the chroma's are NaN for grey."""
    tiles = tiles_of(rgb)
    luma, *chroma = (np.ascontiguousarray(p) for p in np.moveaxis(tiles @ _TO_YCC.T, 3, 0))
    first, second = _both(luma), _both(luma, 2)
    first_energy, second_energy = _energy(*first), _energy(*second)
    levels = {
        **_of_luma(luma, first, second, first_energy, second_energy),
        **_of_chroma(chroma, first_energy, second_energy),
    }
    is_strong = levels["first"] >= np.median(levels["first"])
    numbers: dict[str, float] = {}
    for name, values in levels.items():
        of_all = np.quantile(values, _QUANTILES).tolist()
        of_strong = np.quantile(values[is_strong], _QUANTILES[:2]).tolist()
        for share, number in zip(_QUANTILES, of_all, strict=True):
            numbers[f"{name} {share}"] = number
        for share, number in zip(_QUANTILES, of_strong, strict=False):
            numbers[f"{name} {share} of strong"] = number
    numbers |= _periods("luma", [luma]) | _periods("chroma", chroma)
    numbers |= _of_colours(tiles)
    if not np.ptp(tiles, axis=3).any():
        numbers |= {name: np.nan for name in numbers if name.startswith("chroma")}
    return numbers


def _energy(*planes: _Tiles) -> _Energies:
    """Logarithm of the mean square of planes together, [tiles]."""
    means = [np.square(p).mean((1, 2)) if p.size else np.zeros(len(p)) for p in planes]
    return np.asarray(np.log(np.mean(means, axis=0, dtype=np.float64) + MIN_ENERGY))


def _both(plane: _Tiles, order: int = 1) -> tuple[_Tiles, _Tiles]:
    """Differences across and down."""
    return np.diff(plane, order, axis=2), np.diff(plane, order, axis=1)


def _slanted(plane: _Tiles, order: int = 1) -> tuple[_Tiles, _Tiles]:
    """Differences along both diagonals."""
    differences = []
    for difference in (plane, plane[:, :, ::-1]):
        for _ in range(order):
            difference = difference[:, 1:, 1:] - difference[:, :-1, :-1]  # noqa: PLW2901
        differences.append(difference)
    return differences[0], differences[1]


def _of_luma(
    luma: _Tiles,
    first: tuple[_Tiles, _Tiles],
    second: tuple[_Tiles, _Tiles],
    first_energy: _Energies,
    second_energy: _Energies,
) -> dict[str, _Energies]:
    """Of each tile: energies of differences against each other, shares of flat pixels.

    first, second: its differences of these orders, across and down, whose energies are given.
    """
    diagonal = np.diff(first[0], axis=1)
    apart = [
        _energy(luma[:, :, step:] - luma[:, :, :-step], luma[:, step:] - luma[:, :-step])
        for step in (2, 4)
    ]
    standing_out = _energy(_standing_out(luma), _standing_out(luma.swapaxes(1, 2)))
    flat = np.mean([(d == 0).mean((1, 2)) if d.size else np.ones(len(d)) for d in first], axis=0)
    middle = (
        np.median(np.abs(diagonal).reshape(len(luma), -1), axis=1)
        if diagonal.size
        else 0 * first_energy
    )
    return {
        "first": first_energy,
        "second": second_energy - first_energy,
        "fourth": _energy(*_both(luma, 4)) - second_energy,
        "apart 2": apart[0] - first_energy,
        "apart 4": apart[1] - apart[0],
        "diagonal": _energy(diagonal) - first_energy,
        "diagonal 2": _energy(np.diff(np.diff(luma, 2, axis=2), 2, axis=1)) - second_energy,
        "standing out": standing_out - second_energy,
        "direction": np.ptp([_energy(d) for d in (*first, *_slanted(luma))], axis=0),
        "direction 2": np.ptp([_energy(d) for d in (*second, *_slanted(luma, 2))], axis=0),
        "flat": np.log(flat + 0.01),
        "noise": np.log(middle + 0.25) - first_energy / 2,
    }


def _of_chroma(
    chroma: list[_Tiles], first_energy: _Energies, second_energy: _Energies
) -> dict[str, _Energies]:
    """Of each tile, against the energies of the luma."""
    first = _energy(*(d for plane in chroma for d in _both(plane)))
    second = _energy(*(d for plane in chroma for d in _both(plane, 2)))
    return {
        "chroma first": first - first_energy,
        "chroma second": second - first,
        "chroma detail": second - second_energy,
    }


def _standing_out(plane: _Tiles) -> _Tiles:
    """How far each pixel is above or below both vertical neighbours."""
    above, middle, below = plane[:, :-2], plane[:, 1:-1], plane[:, 2:]
    return middle - np.clip(middle, np.minimum(above, below), np.maximum(above, below))


def _periods(name: str, planes: list[_Tiles]) -> dict[str, float]:
    """How strongly the roughness of columns or rows repeats with each period, in all tiles."""
    strengths = dict.fromkeys(_PERIODS, 0.0)
    for turned in (0, 1):
        rough = sum(np.abs(np.diff(p.swapaxes(1, 2) if turned else p, 2, axis=2)) for p in planes)
        profile = np.sqrt(np.asarray(rough)).mean((0, 1))
        length = len(profile) // _MIN_PROFILE * _MIN_PROFILE
        if not length:
            continue
        profile = profile[:length] / (profile[:length].mean() + 1e-3)
        waves = np.abs(np.fft.rfft(profile - profile.mean())) / length
        for period in _PERIODS:
            harmonics = waves[length // period :: length // period][: max(1, period // 2)]
            strengths[period] = max(strengths[period], float(np.sqrt(np.square(harmonics).mean())))
    return {f"{name} period {period}": float(np.log(v + 0.003)) for period, v in strengths.items()}


def _of_colours(tiles: NDArray[np.uint8]) -> dict[str, float]:
    """Of all tiles: what a colour filter, a curve of tones and a palette leave."""
    green = tiles[..., 1].astype(np.float32)
    rough = np.abs(np.diff(green, 2, axis=2)[:, 1:-1] + np.diff(green, 2, axis=1)[:, :, 1:-1])
    is_even = np.add.outer(*(np.arange(side) for side in rough.shape[1:])) % 2 == 0
    halves = [rough[:, half].mean() if rough[:, half].size else 0.0 for half in (is_even, ~is_even)]
    counts = np.bincount(tiles[..., 1].ravel(), minlength=256) / green.size
    jumps = np.abs(np.diff(counts, 2))[1:-1].sum() / 2
    pixels = tiles.reshape(-1, 3)[:: -(-green.size // 2**14)].astype(np.int32)
    colours = len(np.unique(pixels @ np.array([65536, 256, 1]))) / len(pixels)
    even, odd = np.log(np.add(halves, 0.1))
    return {
        "checkered": float(abs(even - odd)),
        "comb": float(np.log(jumps + 0.02)),
        "colours": float(np.log(colours + 0.01)),
    }
