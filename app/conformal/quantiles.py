"""Quantiles of a map, exact, as numpy interpolates them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def quantiles(values: NDArray[np.float32], levels: NDArray[np.float64]) -> NDArray[np.float32]:
    """The quantiles of float32 values that are finite and ≥ 0, at ascending levels in [0, 1].

    Between two order statistics the value is interpolated linearly, in float64.
    """
    return np.quantile(values, levels).astype(np.float32)
