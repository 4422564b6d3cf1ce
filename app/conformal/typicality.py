"""A new picture among the calibration's: how typical it is, and how hard.

Both are exact for a picture that is exchangeable with one picture of each calibration scene, since
ranks among all n + 1 are symmetric in them. (Crops of one scene are alike: only one may count.)

**Typicality.** Each picture is a point, one coordinate per fact. Its strangeness is its Mahalanobis
distance from the mean of all points, **including the new one**. So P(p ≤ u) ≤ u for every u,
whatever the law and the number of scenes.

**Thirds.** Let s be the mean log σ of a picture, and r_i = #{j : s_j < s_i} the rank of picture i
among all n + 1. Its third is ⌊3 r_i/(n + 1)⌋: 0, the easiest, to 2. The calibration pictures of the
new one's third calibrate alone. *Proof.* Given all n + 1 as a set, and the third of the new one,
each member of that third is equally likely to be the new one: they are exchangeable, and conformal
risk control holds for them. ∎ Pictures with equal s stay together.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

THIRDS = ("easy", "usual", "hard")
"""Their names, from the smallest mean log σ."""

_RIDGE = 1e-9  # of the variance: facts that never vary, or that repeat each other


def p_value(known: NDArray[np.float64], new: NDArray[np.float64]) -> float:
    """The conformal p-value, in [1/(n + 1), 1], of a point [f] among [n, f] of a scene each."""
    points = np.vstack([known, new])
    spread = points.std(axis=0)
    points = (points - points.mean(axis=0)) / np.where(spread > 0, spread, 1)
    # The variance that a far point brings itself cannot hide it: only ranks are used.
    covariance = points.T @ points / len(points) + _RIDGE * np.eye(points.shape[1])
    strange = np.einsum("nf,fg,ng->n", points, np.linalg.inv(covariance), points)
    return float(np.mean(strange >= strange[-1]))  # it is as strange as itself


def third_of(known: NDArray[np.float64], new: float) -> tuple[int, NDArray[np.bool_]]:
    """The third of a new picture, 0 to 2, and which of the known ones are in it, bool [n].

    known, new: mean log σ, of one picture of each scene, float64 [n].
    """
    ranks = np.searchsorted(np.sort(known), np.append(known, new))
    ranks[:-1] += new < known
    thirds = 3 * ranks // (len(known) + 1)
    return int(thirds[-1]), thirds[:-1] == thirds[-1]
