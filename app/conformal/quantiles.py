"""Quantiles of a map, exact, as numpy interpolates them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.conformal import compiled


def quantiles(values: NDArray[np.float32], levels: NDArray[np.float64]) -> NDArray[np.float32]:
    """The quantiles of float32 values that are finite and ≥ 0, at ascending levels in [0, 1].

    Between two order statistics the value is interpolated linearly, in float64.
    """
    kernels = compiled.kernels()
    if kernels is None:
        return np.quantile(values, levels).astype(np.float32)
    place = (values.size - 1) * levels
    low = np.floor(place).astype(np.int64)
    ranks = np.stack([low, np.minimum(low + 1, values.size - 1)])
    below, above = kernels.order_statistics(values.reshape(-1), ranks.reshape(-1)).reshape(2, -1)
    step, share = above - below, place - low
    # numpy starts from the nearer of the two.
    return np.where(share < 0.5, below + step * share, above - step * (1 - share)).astype(
        np.float32
    )
