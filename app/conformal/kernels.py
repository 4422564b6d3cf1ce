"""The hot loops of the trust layer, compiled by numba: the same bits as numpy, in fewer passes.

Only `app/warmup.py` imports this module, in a thread: importing it compiles, or loads what an
earlier process compiled. `app/conformal/compiled.py` says when the kernels are used.

Why the bits are the same. Integer sums do not depend on their order. Everything else is a chain of
single correctly rounded operations, done here in the order in which numpy and scipy do them; no
operation is fused or reordered (numba does neither unless asked). The one exception is the Lab
function f: here it is computed instead of looked up, since its table of 8 MB does not fit the
cache, and `app/conformal/proof.py` compares all of its 2^21 values with the table.

Loops over pixels work on blocks that stay in the first-level cache; inner loops have no branches,
so that the compiler vectorises them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numba
import numpy as np
from numba import types
from numpy.typing import NDArray
from scipy import ndimage

from app.conformal.compiled import Real
from app.conformal.lab import LINEAR_BELOW, XYZ_FIELD, XYZ_UNIT, XYZ_WIDTH, xyz_shares

FOLDED_AT_ONCE = 4
_BLOCK = 1024

_ROUND = np.float32(3 << 22)  # v + 1.5·2^23 − 1.5·2^23 is rint(v) for |v| < 2^22
_UNIT = np.float32(1 << 20)
_L_SCALE, _L_SHIFT = np.float32(1.16), np.float32(0.16)
_A_SCALE, _B_SCALE, _HALF = np.float32(500 / 254), np.float32(200 / 254), np.float32(0.5)
_ZERO, _ONE = np.float32(0), np.float32(1)


def _array(dtype: Any, ndim: int, *, readonly: bool = True) -> Any:
    return types.Array(dtype, ndim, "C", readonly=readonly)


_IMAGE = _array(types.uint8, 2)
_SHARES = _array(types.int64, 2)
_MAP = _array(types.float32, 2)
_OUT = _array(types.float32, 2, readonly=False)
_PLANE = _array(types.float32, 1, readonly=False)
_MAP64 = _array(types.float64, 2)
_OUT64 = _array(types.float64, 2, readonly=False)
_INDEX = _array(types.int64, 1)

_njit: Any = numba.njit
_cached = bool(getattr(numba.config, "CACHE_DIR", ""))
_helper: Callable[[Any], Any] = _njit(error_model="numpy")


def _compiled(*signature: Any, also: Sequence[Any] | None = None) -> Callable[[Any], Any]:
    """Compile for these argument types now; other types are an error, never a surprise later."""
    signatures = [types.void(*each) for each in (signature, also) if each is not None]
    compiler = _njit(signatures, nogil=True, error_model="numpy", cache=_cached)
    return cast("Callable[[Any], Any]", compiler)


# ── Colour ───────────────────────────────────────────────────────────────────────────────────────


@_helper
def _f(index: Any, out: Any, count: Any) -> None:
    """f(t) = ∛t, linear near black, of t = index / XYZ_UNIT: float32.

    t^(−1/3) is guessed from the exponent bits, improved once in float32 and once in float64, each
    time by the series of (1 − e)^(−1/3) with e = 1 − t·r³; ∛t = t·r².
    """
    to_t32, to_t = np.float32(1 / XYZ_UNIT), 1 / XYZ_UNIT
    for i in range(count):
        t32 = np.float32(np.float32(index[i]) * to_t32)
        bits = np.float32(1420032626) - np.float32(t32.view(np.int32)) * np.float32(1 / 3)
        r32 = np.int32(bits).view(np.float32)
        e32 = _ONE - t32 * r32 * r32 * r32
        series = np.float32(14 / 81) + e32 * np.float32(35 / 243)
        series = np.float32(1 / 3) + e32 * (np.float32(2 / 9) + e32 * series)
        t, r = np.float64(index[i]) * to_t, np.float64(r32 + r32 * e32 * series)
        square = t * r * r
        e = 1.0 - square * r
        root = square * (1.0 + e * (2 / 3 + e * (5 / 9)))
        out[i] = np.float32(root if t > LINEAR_BELOW else 7.787 * t + 16 / 116)


@_helper
def _lab(pixels: Any, start: Any, count: Any, shares: Any, index: Any, lab: Any) -> None:
    """Normalised Lab of `count` pixels from `start` into float32 [3, _BLOCK], as `lab_block`."""
    block, red, green, blue = pixels[start : start + count], shares[0], shares[1], shares[2]
    ix, iy, iz = index[0], index[1], index[2]
    for i in range(count):
        xyz = red[block[i, 0]] + green[block[i, 1]] + blue[block[i, 2]]
        ix[i] = xyz >> 2 * XYZ_WIDTH
        iy[i] = (xyz >> XYZ_WIDTH) & XYZ_FIELD
        iz[i] = xyz & XYZ_FIELD
    for channel in range(3):
        _f(index[channel], lab[channel], count)
    x, y, z = lab[0], lab[1], lab[2]
    for i in range(count):
        fy = y[i]
        a = (x[i] - fy) * _A_SCALE + _HALF
        b = (fy - z[i]) * _B_SCALE + _HALF
        x[i] = max(fy * _L_SCALE - _L_SHIFT, _ZERO)
        y[i] = a
        z[i] = b


@_compiled(_array(types.int32, 1), _PLANE)
def _f_of(index: Any, out: Any) -> None:
    _f(index, out, len(index))


@_compiled(_IMAGE, _SHARES, _OUT)
def _lab_of(pixels: Any, shares: Any, out: Any) -> None:
    index, lab = np.empty((3, _BLOCK), np.int32), np.empty((3, _BLOCK), np.float32)
    for start in range(0, len(pixels), _BLOCK):
        count = min(_BLOCK, len(pixels) - start)
        _lab(pixels, start, count, shares, index, lab)
        out[:, start : start + count] = lab[:, :count]


@_compiled(_IMAGE, _IMAGE, _SHARES, _PLANE)
def _distance(first: Any, second: Any, shares: Any, out: Any) -> None:
    index = np.empty((3, _BLOCK), np.int32)
    u, v = np.empty((3, _BLOCK), np.float32), np.empty((3, _BLOCK), np.float32)
    for start in range(0, len(out), _BLOCK):
        count = min(_BLOCK, len(out) - start)
        _lab(first, start, count, shares, index, u)
        _lab(second, start, count, shares, index, v)
        block = out[start : start + count]
        for i in range(count):
            lightness, a, b = u[0, i] - v[0, i], u[1, i] - v[1, i], u[2, i] - v[2, i]
            block[i] = abs(lightness) + abs(a) + abs(b)


# ── σ ────────────────────────────────────────────────────────────────────────────────────────────


@_helper
def _add(lab: Any, start: Any, count: Any, sums: Any, squares: Any) -> None:
    """Round a block of Lab to the grid of 2^-20 and add it to S1 and S2."""
    end = start + count
    s0, s1, s2 = sums[0, start:end], sums[1, start:end], sums[2, start:end]
    s = squares[start:end]
    for i in range(count):
        x = (lab[0, i] * _UNIT + _ROUND) - _ROUND
        y = (lab[1, i] * _UNIT + _ROUND) - _ROUND
        z = (lab[2, i] * _UNIT + _ROUND) - _ROUND
        s0[i] += np.int32(x)
        s1[i] += np.int32(y)
        s2[i] += np.int32(z)
        x64, y64, z64 = np.float64(x), np.float64(y), np.float64(z)
        s[i] += x64 * x64 + y64 * y64 + z64 * z64


@_compiled(
    *[_IMAGE] * FOLDED_AT_ONCE,
    types.int64,
    _SHARES,
    _array(types.int32, 2, readonly=False),
    _array(types.float64, 1, readonly=False),
)
def _fold(
    first: Any, second: Any, third: Any, fourth: Any, n: Any, shares: Any, sums: Any, squares: Any
) -> None:
    """Fold the first n of four samples: the sums pass through the cache once for all of them."""
    index, lab = np.empty((3, _BLOCK), np.int32), np.empty((3, _BLOCK), np.float32)
    for start in range(0, len(squares), _BLOCK):
        count = min(_BLOCK, len(squares) - start)
        for k in range(n):
            sample = first if k == 0 else second if k == 1 else third if k == 2 else fourth
            _lab(sample, start, count, shares, index, lab)
            _add(lab, start, count, sums, squares)


@_compiled(_array(types.int32, 2), _array(types.float64, 1), types.int64, types.float64, _PLANE)
def _variance(sums: Any, squares: Any, count: Any, scale: Any, out: Any) -> None:
    for i in range(len(out)):
        x, y, z = np.int64(sums[0, i]), np.int64(sums[1, i]), np.int64(sums[2, i])
        spread = count * np.int64(squares[i]) - (x * x + y * y + z * z)
        out[i] = np.float32(np.float64(spread) * scale)


# ── Filters: scipy's order of operations, rows first, then columns; sums are float64, and what lies
# between the two is rounded to the type of the values ──────────────────────────────────────────


@_helper
def _reflect(line: Any, columns: Any, left: Any, width: Any) -> None:
    """Fill the ends of a line whose middle is there."""
    for x in range(left):
        line[x] = line[left + columns[x]]
    for x in range(left + width, len(line)):
        line[x] = line[left + columns[x]]


@_compiled(
    *(_MAP, types.int64, _INDEX, _INDEX, _OUT), also=(_MAP64, types.int64, _INDEX, _INDEX, _OUT64)
)
def _box(  # noqa: C901 - loops over rows and columns
    values: Any, size: Any, rows: Any, columns: Any, out: Any
) -> None:
    """Running sums. Row y of the window starts at rows[y]; column x of it at columns[x]."""
    height, width = values.shape
    total, line, rounded = np.zeros(width), np.empty(len(columns)), np.empty_like(out[0])
    left, sums = size // 2, np.empty(width)
    for y in range(height):
        if y == 0:
            for k in range(size):
                row = values[rows[k]]
                for x in range(width):
                    total[x] += np.float64(row[x])
        else:
            old, new = values[rows[y - 1]], values[rows[y - 1 + size]]
            for x in range(width):
                total[x] += np.float64(new[x]) - np.float64(old[x])
        for x in range(width):
            rounded[x] = total[x] / size
            line[left + x] = rounded[x]
        _reflect(line, columns, left, width)
        new_in_line, old_in_line, steps = line[size:], line[:width], sums[1:]
        for x in range(width - 1):
            steps[x] = new_in_line[x] - old_in_line[x]
        running = 0.0
        for k in range(size):
            running += line[k]
        sums[0] = running
        for x in range(1, width):
            running += sums[x]
            sums[x] = running
        for x in range(width):
            out[y, x] = sums[x] / size


@_helper
def _weigh(total: Any, before: Any, after: Any, weight: Any) -> None:
    """Add (before + after) · weight."""
    for x in range(len(total)):
        total[x] += (np.float64(before[x]) + np.float64(after[x])) * weight


@_compiled(_MAP, _array(types.float64, 1), _INDEX, _INDEX, _OUT)
def _correlate(values: Any, weights: Any, rows: Any, columns: Any, out: Any) -> None:
    """A symmetric window: the middle first, then pairs of neighbours from the outside inwards."""
    height, width = values.shape
    radius = len(weights) - 1  # weights[radius] is the middle
    total, line = np.empty(width), np.empty(len(columns))
    inside = line[radius : radius + width]
    for y in range(height):
        row = values[y]
        for x in range(width):
            total[x] = np.float64(row[x]) * weights[radius]
        for k in range(radius):
            above, below = values[rows[y + k]], values[rows[y + 2 * radius - k]]
            _weigh(total, above, below, weights[k])
        for x in range(width):
            inside[x] = np.float64(np.float32(total[x]))
        _reflect(line, columns, radius, width)
        for x in range(width):
            total[x] = inside[x] * weights[radius]
        for k in range(radius):
            left, right = line[k : k + width], line[2 * radius - k : 2 * radius - k + width]
            _weigh(total, left, right, weights[k])
        for x in range(width):
            out[y, x] = np.float32(total[x])


# ── Order statistics: radix selection, three passes over the bits of all ranks at once ───────────


@_helper
def _descend(counts: Any, slots: Any, ranks: Any, found: Any, bits: Any, children: Any) -> None:
    """For each rank: the digit under which it lies, and its rank among those of this digit.

    Ranks of one prefix share a slot, whose row of `counts` counts the next digits; `children` gets
    the slot of every digit that is needed further on, and keeps the last, unused one elsewhere.
    """
    used = 0
    for k in range(len(ranks)):
        row, digit = counts[slots[k]], 0
        while ranks[k] >= row[digit]:
            ranks[k] -= row[digit]
            digit += 1
        found[k] = (found[k] << bits) | digit
        if children[slots[k], digit] == len(ranks):
            children[slots[k], digit] = used
            used += 1
        slots[k] = children[slots[k], digit]


@_compiled(
    _array(types.uint32, 1), types.Array(types.int64, 1, "C"), types.Array(types.int64, 1, "C")
)
def _select(values: Any, ranks: Any, found: Any) -> None:
    """Bits of the order statistics: for floats ≥ 0 their order is that of the numbers."""
    rest = len(ranks)  # the slot of what is not looked for
    slots = np.zeros(rest, np.int64)
    counts = np.zeros((1, 2048), np.int32)
    for i in range(len(values)):
        counts[0, (values[i] >> 20) & 0x7FF] += 1
    first = np.full((1, 2048), rest, np.int32)
    _descend(counts, slots, ranks, found, 11, first)
    counts = np.zeros((rest + 1, 1024), np.int32)
    for i in range(len(values)):
        counts[first[0, (values[i] >> 20) & 0x7FF], (values[i] >> 10) & 0x3FF] += 1
    second = np.full((rest + 1, 1024), rest, np.int32)
    _descend(counts, slots, ranks, found, 10, second)
    counts = np.zeros((rest + 1, 1024), np.int32)
    for i in range(len(values)):
        slot = second[first[0, (values[i] >> 20) & 0x7FF], (values[i] >> 10) & 0x3FF]
        counts[slot, values[i] & 0x3FF] += 1
    _descend(counts, slots, ranks, found, 10, np.full((rest + 1, 1024), rest, np.int32))


def _reflected(count: int, before: int, after: int) -> NDArray[np.int64]:
    """Which element stands at each place of a line with both ends reflected."""
    return np.pad(np.arange(count, dtype=np.int64), (before, after), mode="symmetric")


class Compiled:
    """The kernels behind `app.conformal.compiled.Kernels`."""

    def __init__(self) -> None:
        self._shares = xyz_shares()

    def f(self, index: NDArray[np.int32]) -> NDArray[np.float32]:
        """The Lab function of these table indices."""
        out = np.empty(len(index), np.float32)
        _f_of(index, out)
        return out

    def fold(
        self,
        samples: Sequence[NDArray[np.uint8]],
        sums: NDArray[np.int32],
        squares: NDArray[np.float64],
    ) -> None:
        for start in range(0, len(samples), FOLDED_AT_ONCE):
            group = [_pixels(sample) for sample in samples[start : start + FOLDED_AT_ONCE]]
            four = group + group[-1:] * (FOLDED_AT_ONCE - len(group))
            _fold(*four, len(group), self._shares, sums, squares)

    def variance(
        self, sums: NDArray[np.int32], squares: NDArray[np.float64], count: int, scale: float
    ) -> NDArray[np.float32]:
        out = np.empty(len(squares), np.float32)
        _variance(sums, squares, count, scale, out)
        return out

    def lab(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        out = np.empty((3, *rgb.shape[:2]), np.float32)
        _lab_of(_pixels(rgb), self._shares, out.reshape(3, -1))
        return out

    def distance(self, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
        out = np.empty(first.shape[:2], np.float32)
        _distance(_pixels(first), _pixels(second), self._shares, out.reshape(-1))
        return out

    def box(self, values: NDArray[Real], size: int) -> NDArray[Real]:
        height, width = values.shape
        before, after = size // 2, size - size // 2 - 1
        out = np.empty_like(values, order="C")
        rows, columns = _reflected(height, before, after), _reflected(width, before, after)
        _box(np.ascontiguousarray(values), size, rows, columns, out)
        return out

    def gaussian(
        self, values: NDArray[np.float32], deviation: float, radius: int
    ) -> NDArray[np.float32]:
        height, width = values.shape
        out = np.empty_like(values, order="C")
        rows, columns = _reflected(height, radius, radius), _reflected(width, radius, radius)
        weights = _half_window(deviation, radius)
        _correlate(np.ascontiguousarray(values), weights, rows, columns, out)
        return out

    def order_statistics(
        self, values: NDArray[np.float32], ranks: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        found = np.zeros(len(ranks), np.int64)
        _select(np.ascontiguousarray(values).view(np.uint32), ranks.copy(), found)
        return found.astype(np.uint32).view(np.float32)


def _pixels(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(rgb).reshape(-1, 3)


def _half_window(deviation: float, radius: int) -> NDArray[np.float64]:
    """The weights of scipy, from the outermost to the middle one: its answer to a single 1."""
    impulse = np.zeros(2 * radius + 1)
    impulse[radius] = 1
    window = ndimage.gaussian_filter1d(impulse, deviation, mode="constant", radius=radius)
    return np.ascontiguousarray(window[: radius + 1])
