"""How much of what a model added is invented, and how far to follow it, without a truth.

With the luma (Rec. 601, in [0, 1]) of Ŷ and of E, the plain enlargement of X, a = Ŷ − E is what was
added. For every cell of 4×4 pixels a small network, the same for every model, says

- the **score** s ∈ [0, 1]: which share of ⟨a²⟩ is probably invented (`conformal/added.py`), fitted
  to the cross-entropy of that share, each unit of a picture's added energy counting alike, so that
  thresholds on s keep the most detail for a given invented share (Neyman and Pearson);
- the **weight** w: the least squares estimate of ⟨a, t⟩/⟨a, a⟩, so that E + w·a is nearer to the
  truth than E and Ŷ are (shrinkage), if pictures are as those of the fit.

The photographs of the fit go on above the finest band of X. What is blurred in itself, as cells
under a microscope, does not: ‖t‖ is small there, and ⟨a, t⟩/⟨a, a⟩ ≤ ‖t‖/‖a‖. So w is *limited* by
how X falls off towards that band (`_limit`), unless X was blurred or drawn afterwards: then that
says nothing of the truth.

**Features** are ten numbers at each of three levels of cells, of 4, 16 and 64 pixels, coarse ones
interpolated: the energies of a, of E and of their gradients within cells, how far a follows E (the
correlation of both and of their gradients: a sharpened edge does, invented texture does not), how
fine a is, two bands of E, and how far E's gradients there have one direction; then means over the
picture, and the facts about X that a fitted σ knows (`features.FACTS`).

A promise does not depend on it: a poor score marks less. The fit saw photographs that calibrate
nothing (`benchmarks/added.py`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray
from PIL import Image

from trustscale_server.conformal.added import STEPS, VISIBLE, invented_share
from trustscale_server.kinds.features import InputFeatures
from trustscale_server.pixels.align import consistency_db
from trustscale_server.pixels.lab import LUMA, Pixels
from trustscale_server.pixels.resize import enlarged_rows
from trustscale_server.sampling.sigma.features import CELL, FACTS, MapFn, wait_for

UNCHANGED: Final = 255
"""The code of cells to which nothing visible was added."""

_NUDGE = 0.1  # of w: detail of clean uploads is more real than a mixture of uploads suggests
_FAITHFUL_DB = 50.0  # of the agreement with a clean upload; models that invent reach 45, aligned
_FAITHFUL = 0.25  # of 1 − w that is left then: such a model adds hardly more than what is implied
_COARSER = 4  # cells of a level by those of the level before
_TINY = np.float32(1e-6)  # of energies: a quarter of a grey level
_ROWS = 64  # rows of cells at once
_AT_ONCE = 512  # cells: they stay in the cache, and BLAS starts no threads, which wait by computing
_MARGIN = 16  # further rows that their features look at

_Plane = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class AddedFit:
    """The network: features by name, and two layers of units that bend.

    means, deviations: of the features, float32 [F]. layers: weights [n, m] and biases [n] of each
    layer; the last has two outputs, the logit of s and w.
    """

    names: tuple[str, ...]
    means: _Plane
    deviations: _Plane
    layers: tuple[tuple[_Plane, _Plane], ...]
    note: str

    def __call__(self, features: Mapping[str, _Plane]) -> tuple[_Plane, _Plane]:
        """Return s in [0, 1] and the estimate of w, float32 [h, w] each."""
        planes = [features[name] for name in self.names]
        shape = planes[0].shape
        flat = [plane.reshape(-1) for plane in planes]
        outputs = np.empty((2, flat[0].size), np.float32)
        for first in range(0, outputs.shape[1], _AT_ONCE):
            cells = slice(first, first + _AT_ONCE)
            outputs[:, cells] = self._outputs(np.stack([plane[cells] for plane in flat]))
        logit, weight = outputs
        return scipy.special.expit(logit).reshape(shape), weight.reshape(shape)

    def _outputs(self, x: _Plane) -> _Plane:
        """The logit of s and the estimate of w, [2, n], of features [F, n], which are changed."""
        x -= self.means[:, None]
        x /= self.deviations[:, None]
        np.clip(x, -4, 4, out=x)
        *hidden, last = self.layers
        for weights, biases in hidden:
            x = weights @ x
            x += biases[:, None]
            np.maximum(x, 0, out=x)
        weights, biases = last
        return np.asarray(weights @ x + biases[:, None])


@cache
def shipped_network() -> AddedFit:
    """Return the network that comes with this program."""
    data = resources.files(__package__).joinpath("fits", "added.json").read_text("utf-8")
    stored = json.loads(data)
    return AddedFit(
        tuple(stored["names"]),
        np.array(stored["means"], np.float32),
        np.array(stored["deviations"], np.float32),
        tuple(
            (np.array(weights, np.float32), np.array(biases, np.float32))
            for weights, biases in stored["layers"]
        ),
        stored["note"],
    )


class Added(NamedTuple):
    """What was added to a picture, by cells of 4×4 output pixels.

    codes: ⌊64 s⌋, or `UNCHANGED`, uint8 [h, w]. energy: the mean of a², float32 [h, w].
    weights: 255 w, uint8 [h, w].
    """

    codes: NDArray[np.uint8]
    energy: _Plane
    weights: NDArray[np.uint8]


class _Cells(NamedTuple):
    """Means over the cells of one level, float32 [h, w] each.

    light: of E. added: of a². edges, within: variances of E and a inside a cell. agrees: their
    covariance. slope, fine: squares of the differences of neighbours, of E and of a. follows:
    their products.
    """

    light: _Plane
    added: _Plane
    edges: _Plane
    within: _Plane
    agrees: _Plane
    slope: _Plane
    fine: _Plane
    follows: _Plane

    def rows(self, top: int, bottom: int) -> _Cells:
        return _Cells(*(plane[top:bottom] for plane in self))

    def coarser(self) -> _Cells:
        return _Cells(*map(_coarser, self))


def luma(pixels: Pixels) -> _Plane:
    """Return Y′ in [0, 1], float32 [h, w], of sRGB of 8 or 16 bits."""
    scale = LUMA / np.float32(np.iinfo(pixels.dtype).max)
    return np.asarray(pixels.astype(np.float32) @ scale)


def score_added(
    source: Pixels, prediction: Pixels, about: InputFeatures, map_fn: MapFn = map
) -> Added:
    """Say of each cell how much of what was added is probably invented.

    Args:
        source: X, uint8 or uint16 [h, w, 3].
        prediction: Ŷ, [k·h, k·w, 3] of the same type.
        about: the features of X.
        map_fn: goes through strips, as `map` does, or in threads.
    """
    fit = shipped_network()
    facts, light_of_x = about.terms(), luma(source)
    cells = _measured(light_of_x, prediction, map_fn)
    height, width = cells.light.shape
    coarse, means = _coarse_features(cells)
    same = {f"mean {name}": mean for name, mean in means.items()}
    same |= {f"fact {name}": float(facts[name]) for name in FACTS}
    nudge = _NUDGE if facts["lossy"] else 2 * _NUDGE
    is_faithful = not facts["lossy"] and consistency_db(prediction, source) >= _FAITHFUL_DB
    doubted = np.float32(_FAITHFUL if is_faithful else 1)
    limit = np.float32(1)
    if about.kind.falls_off_as_taken and not is_faithful:
        limit = _limit(light_of_x, cells.added, len(prediction) // len(source))
    codes = np.empty((height, width), np.uint8)
    weights = np.empty((height, width), np.uint8)
    visible = scipy.ndimage.gaussian_filter(cells.added, 1.0, mode="reflect") >= VISIBLE**2

    def strip(top: int) -> None:
        bottom = min(top + _ROWS, height)
        above, below = max(0, top - _MARGIN), min(height, bottom + _MARGIN)
        own = slice(top - above, bottom - above)
        near, light = _features(cells.rows(above, below))
        features = {f"{name}@0": plane[own] for name, plane in near.items()}
        for depth, planes in enumerate(coarse, 1):
            features |= {
                f"{name}@{depth}": _finer_rows(plane, depth, top, bottom)[:, :width]
                for name, plane in planes.items()
            }
        features["light"] = light[own]
        shape = (bottom - top, width)
        features |= {n: np.broadcast_to(np.float32(v), shape) for n, v in same.items()}
        score, weight = fit(features)
        weight = 1 - doubted * (1 - np.clip(weight + nudge, 0, 1))
        places = np.minimum(score * STEPS, STEPS - 1).astype(np.uint8)
        codes[top:bottom] = np.where(visible[top:bottom], places, UNCHANGED)
        weights[top:bottom] = np.rint(limit * weight * 255)

    wait_for(map_fn(strip, range(0, height, _ROWS)))
    return Added(codes, cells.added, weights)


def invented(source: Pixels, prediction: Pixels, truth: Pixels) -> _Plane:
    """Return which share of what was added around each cell is invented, float32 [h, w]."""
    light = luma(source)
    enlarged = enlarged_rows(light, len(prediction) // len(light), 0, len(prediction))
    added, missing = luma(prediction) - enlarged, luma(truth) - enlarged
    return invented_share(
        *(_cell_means(_whole(plane)) for plane in (added**2, added * missing, missing**2))
    )


def safe_copy(source: Pixels, prediction: Pixels, weights: NDArray[np.uint8]) -> Pixels:
    """Return E + w·a, nearer to the truth than Ŷ and E, in the type of the prediction.

    It is soft where the detail is doubtful, in proportion and without borders: w is interpolated.
    """
    scale = len(prediction) // len(source)
    height, width, _ = prediction.shape
    largest = np.iinfo(prediction.dtype).max
    copy, exact = np.empty_like(prediction), source.astype(np.float32)
    for top in range(0, height, CELL * _ROWS):
        bottom = min(top + CELL * _ROWS, height)
        first, last = max(0, top // CELL - 2), -(-bottom // CELL) + 2
        w = _finer(weights[first:last].astype(np.float32), CELL) * np.float32(1 / 255)
        w = w[top - CELL * first : bottom - CELL * first, :width, None]
        plain = enlarged_rows(exact, scale, top, bottom)
        plain += w * (prediction[top:bottom] - plain)
        copy[top:bottom] = np.rint(np.clip(plain, 0, largest, out=plain))
    return copy


def _limit(light: _Plane, added: _Plane, scale: int) -> np.float32:
    """By what w is multiplied: 1, or the root of usual over added energy where that is less.

    With b₁, b₂ the energies of the two finest bands of X, which blurs of 0.6 and 1.2 pixels part,
    and k the scale, 2, 3 or 4, ‖t‖² is 2 k b₁ (b₁/b₂)^1.5 in the median of the fit's photographs,
    and models usually add half of it.
    """
    planes = [light, _blurred(light, 0.6), _blurred(light, 1.2)]
    fine, coarse = (max(_TINY, ((a - b) ** 2).mean()) for a, b in pairwise(planes))
    usual = scale * fine * (fine / coarse) ** 1.5
    return np.float32(min(1.0, math.sqrt(usual / max(_TINY, added.mean()))))


def _measured(light: _Plane, prediction: Pixels, map_fn: MapFn) -> _Cells:
    """The cells of level 0; the last row and column are repeated to whole cells."""
    height, width = prediction.shape[:2]
    scale = height // len(light)
    shape = -(-height // CELL), -(-width // CELL)
    cells = _Cells(*(np.empty(shape, np.float32) for _ in _Cells._fields))

    def strip(top: int) -> None:
        first, last = CELL * top, min(CELL * (top + _ROWS), height)
        beyond = min(last + 1, height)  # one more row, for the differences
        e = _whole(enlarged_rows(light, scale, first, beyond), last - first)
        a = _whole(luma(prediction[first:beyond]), last - first) - e
        (ex, ey), (ax, ay) = _slopes(e), _slopes(a)
        e, a = e[:-1], a[:-1]
        mean_e, mean_a, added = _cell_means(e), _cell_means(a), _cell_means(a * a)
        of_strip = _Cells(
            mean_e,
            added,
            _cell_means(e * e) - mean_e**2,
            added - mean_a**2,
            _cell_means(a * e) - mean_a * mean_e,
            _cell_means(ex * ex + ey * ey),
            _cell_means(ax * ax + ay * ay),
            _cell_means(ax * ex + ay * ey),
        )
        for plane, rows in zip(cells, of_strip, strict=True):
            plane[top : top + len(rows)] = rows

    wait_for(map_fn(strip, range(0, shape[0], _ROWS)))
    return cells


def _whole(plane: _Plane, rows: int | None = None) -> _Plane:
    """The plane with its edge repeated to whole cells, and, given its rows, one row more."""
    height, width = plane.shape
    rows_needed = height + -height % CELL if rows is None else rows + -rows % CELL + 1
    return np.pad(plane, ((0, rows_needed - height), (0, -width % CELL)), mode="edge")


def _slopes(plane: _Plane) -> tuple[_Plane, _Plane]:
    """The differences to the right and below, without the last row; 0 at the border."""
    across = np.zeros((len(plane) - 1, plane.shape[1]), np.float32)
    np.subtract(plane[:-1, 1:], plane[:-1, :-1], out=across[:, :-1])
    return across, plane[1:] - plane[:-1]


def _cell_means(plane: _Plane) -> _Plane:
    """Means of the cells, float32 [h/4, w/4]; slices are added one by one, in fixed order."""
    tall = plane[::CELL] + plane[1::CELL]
    for row in range(2, CELL):
        tall += plane[row::CELL]
    cells = tall[:, ::CELL] + tall[:, 1::CELL]
    for column in range(2, CELL):
        cells += tall[:, column::CELL]
    cells *= np.float32(1 / CELL**2)
    return np.asarray(cells)


def _coarser(plane: _Plane) -> _Plane:
    sides = [(0, -side % _COARSER) for side in plane.shape]
    return _cell_means(np.pad(plane, sides, mode="symmetric"))


def _finer(plane: _Plane, times: int) -> _Plane:
    """The plane, `times` as large, by linear interpolation of centres."""
    height, width = plane.shape
    size = times * width, times * height
    return np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BILINEAR))


def _finer_rows(plane: _Plane, levels: int, top: int, bottom: int) -> _Plane:
    """Rows of the plane, interpolated some levels finer; only what they depend on is made."""
    for level in reversed(range(levels)):
        wide = _COARSER ** (level + 1)  # of the plane's cells, in rows of the result
        first = max(0, top // wide - 2)
        plane = _finer(plane[first : -(-bottom // wide) + 2], _COARSER)
        top, bottom = top - wide * first, bottom - wide * first
    return plane[top:bottom]


def _coarse_features(cells: _Cells) -> tuple[list[dict[str, _Plane]], dict[str, float]]:
    """The features of both coarser levels on their own cells, and means over the picture."""
    levels = []
    for _ in range(2):
        cells = cells.coarser()
        levels.append(_features(cells)[0])
    means = {name: float(levels[0][name].mean()) for name in ("added", "near", "slope")}
    return levels, means


def _features(cells: _Cells) -> tuple[dict[str, _Plane], _Plane]:
    """The ten features of a level, and E blurred by a cell; float32 [h, w] each."""
    light = _blurred(cells.light)
    down, across = (_gradient(cells.light, axis) for axis in (0, 1))
    energies = {
        name: _blurred(plane)
        for name, plane in {
            **cells._asdict(),
            "near": (cells.light - light) ** 2,
            "far": (light - _blurred(cells.light, 2.5)) ** 2,
            "across": across * across,
            "down": down * down,
            "slanted": across * down,
        }.items()
        if name != "light"
    }
    added = _log(energies["added"])
    turn = energies["across"] - energies["down"]
    steep = energies["across"] + energies["down"]
    return {
        "added": added,
        "edges": _log(energies["edges"]),
        "within": _log(energies["within"]) - added,
        "agrees": _correlation(energies["agrees"], energies["within"], energies["edges"]),
        "fine": _log(energies["fine"]) - added,
        "slope": _log(energies["slope"]),
        "follows": _correlation(energies["follows"], energies["fine"], energies["slope"]),
        "near": _log(energies["near"]),
        "far": _log(energies["far"]),
        "line": np.sqrt(turn**2 + 4 * energies["slanted"] ** 2) / (steep + _TINY),
    }, light


def _blurred(plane: _Plane, deviation: float = 1.0) -> _Plane:
    return np.asarray(scipy.ndimage.gaussian_filter(plane, deviation, mode="reflect", truncate=3.0))


def _gradient(plane: _Plane, axis: int) -> _Plane:
    if plane.shape[axis] == 1:
        return np.zeros_like(plane)
    return np.asarray(np.gradient(plane, axis=axis))


def _log(energy: _Plane) -> _Plane:
    return np.asarray(np.log(np.maximum(energy, 0) + _TINY))


def _correlation(product: _Plane, first: _Plane, second: _Plane) -> _Plane:
    energies = (np.maximum(first, 0) + _TINY) * (np.maximum(second, 0) + _TINY)
    return np.asarray(product / np.sqrt(energies))
