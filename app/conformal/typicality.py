"""How usual is one image among others? A p-value from several facts at once.

Each image is a point, one coordinate per fact. Its strangeness is its Mahalanobis distance from the
mean of all points, **including the new one**: a symmetric function of all. So if the new point is
exchangeable with the others, P(p ≤ u) ≤ u for every u, whatever the law and however few they are.
Each scene may give one point only: its crops are alike, and draw mean and spread away from a crop
of a new scene.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_RIDGE = 1e-9  # of the variance: facts that never vary, or that repeat each other


def p_value(known: NDArray[np.float64], new: NDArray[np.float64]) -> float:
    """The conformal p-value of a new point among known ones, in [1/(n + 1), 1].

    Args:
        known: float64 [n, f], each of a scene of its own.
        new: float64 [f].
    """
    points = np.vstack([known, new])
    spread = points.std(axis=0)
    points = (points - points.mean(axis=0)) / np.where(spread > 0, spread, 1)
    # A new point that lies far outside must not be hidden by the variance that it brings itself:
    # distance is measured by all points, as symmetry demands, and only ranks are used.
    covariance = points.T @ points / len(points) + _RIDGE * np.eye(points.shape[1])
    strange = np.einsum("nf,fg,ng->n", points, np.linalg.inv(covariance), points)
    return float(np.mean(strange >= strange[-1]))  # it is as strange as itself
