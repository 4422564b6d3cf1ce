"""What leaked calibration scenes do to the promise (Proposition 3.2, the paper's Figure 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.conformal import RiskCurve, Staircase
from app.conformal.guarantees import leakage_bound
from app.evaluation.reduce import Cell

SHARES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)
DRAWS = 8
_PERFECT = Staircase(np.empty(0, np.float32), np.empty(0, np.float32))


@dataclass(frozen=True, slots=True)
class Leakage:
    """Per number of leaked scenes: the realised error, averaged over draws, and its bound."""

    alpha: float
    counts: Sequence[int]
    realised: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    bounds: NDArray[np.float64]


def leak(cell: Cell, alpha: float, seed: int) -> Leakage:
    """Replace the images of some scenes by perfect predictions (D ≡ 0), as the paper does.

    Which scenes leak is drawn `DRAWS` times; `low` and `high` are the extremes over the draws.
    """
    made = cell.calibration
    counts = sorted({round(share * made.n) for share in SHARES} - {made.n})
    random = np.random.Generator(np.random.PCG64(seed))
    realised = []
    for count in counts:
        draws = []
        for _ in range(DRAWS if count else 1):
            leaked = {i for k in random.permutation(made.n)[:count] for i in made.members[k]}
            images = [_PERFECT if i in leaked else one for i, one in enumerate(made.counted)]
            curve = RiskCurve.from_staircases(
                images, made.bound, scenes=made.scenes, highest=made.highest
            )
            threshold = curve.threshold(alpha)
            draws.append(np.mean([one.losses.loss_below(threshold) for one in cell.answers]))
        realised.append(draws)
    return Leakage(
        alpha,
        counts,
        np.array([np.mean(draws) for draws in realised]),
        np.array([min(draws) for draws in realised]),
        np.array([max(draws) for draws in realised]),
        np.array([leakage_bound(alpha, made.n, count, made.bound) for count in counts]),
    )
