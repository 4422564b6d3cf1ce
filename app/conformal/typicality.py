"""How usual is one image among others? A p-value from several facts at once.

Each image is a point, one coordinate per fact. Its strangeness is its Mahalanobis distance from the
mean of all points, **the new one among them**: a symmetric function of all, so for a point that is
exchangeable with the others the rank of its strangeness is uniform, whatever the law, and
P(p ≤ u) ≤ u for every u, however few they are. Crops of one scene share one vote.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_RIDGE = 1e-9  # of the variance: facts that never vary, or that repeat each other


def p_value(
    known: NDArray[np.float64], new: NDArray[np.float64], members: Sequence[Sequence[int]]
) -> float:
    """The conformal p-value of a new point among known ones, in [1/(K + 1), 1].

    Args:
        known: float64 [n, f].
        new: float64 [f].
        members: of each of the K scenes the places of its points.
    """
    points = np.vstack([known, new])
    spread = points.std(axis=0)
    points = (points - points.mean(axis=0)) / np.where(spread > 0, spread, 1)
    # A new point that lies far outside must not be hidden by the variance that it brings itself:
    # distance is measured by all points, as symmetry demands, and only ranks are used.
    covariance = points.T @ points / len(points) + _RIDGE * np.eye(points.shape[1])
    strange = np.einsum("nf,fg,ng->n", points, np.linalg.inv(covariance), points)
    as_strange = strange[:-1] >= strange[-1]
    votes = sum(float(as_strange[list(places)].mean()) for places in members)
    return (1 + votes) / (len(members) + 1)
