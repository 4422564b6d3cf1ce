"""Quantiles of a map, exact, as numpy interpolates them, without sorting the map.

The bits of a non-negative float32, read as an integer, are in the order of the numbers. Counting
the values in equal cells of such integers tells in which few cells the wanted ranks lie; only the
values of these are sorted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_CELL_BITS = 16


def quantiles(values: NDArray[np.float32], levels: NDArray[np.float64]) -> NDArray[np.float32]:
    """The quantiles of float32 values that are finite and ≥ 0, at ascending levels in [0, 1].

    Between two order statistics the value is interpolated linearly, in float64.
    """
    flat = values.reshape(-1)
    lowest = flat.min().view(np.int32)
    span = int(flat.max().view(np.int32)) - int(lowest)
    cells = (flat.view(np.int32) - lowest) >> max(0, span.bit_length() - _CELL_BITS)
    ends = np.cumsum(np.bincount(cells, minlength=1 << _CELL_BITS))
    at = levels * (flat.size - 1)
    below = np.floor(at).astype(np.intp)
    ranks = np.concatenate([below, np.minimum(below + 1, flat.size - 1)])
    holds = np.searchsorted(ends, ranks, side="right")
    wanted = np.zeros(1 << _CELL_BITS, np.bool_)
    wanted[holds] = True
    kept = np.sort(flat[wanted.take(cells)])
    # A kept value's rank among all, less its place here: how many are left out before its cell.
    left_out = np.cumsum(np.where(wanted, 0, np.diff(ends, prepend=0)))
    low, high = kept[ranks - left_out[holds]].astype(np.float64).reshape(2, -1)
    return np.asarray(low + (high - low) * (at - below), np.float32)
