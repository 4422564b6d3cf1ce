"""What to expect of a calibration, from its own staircases: repeated random splits.

Half of the images calibrate, the other half are served; nothing is generated. The splits of one
calibration are not independent of each other, so the intervals describe the spread over splits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.conformal.curve import StepCurve
from app.conformal.risk import RiskCurve
from app.conformal.staircase import Staircase


class BacktestRow(NamedTuple):
    """One α: mean over the splits, and the 5 % and 95 % quantiles over the splits.

    violations: share of the splits whose served half lost more than α on average. A guarantee in
    expectation allows about half; with high probability about δ, and a little more where half of
    the images are few, since their mean is not yet the expectation.
    """

    alpha: float
    risk: float
    risk_low: float
    risk_high: float
    trusted: float
    trusted_low: float
    trusted_high: float
    violations: float


def backtest(
    staircases: Sequence[Staircase],
    sigma_quantiles: NDArray[np.float32],
    bound: float,
    alphas: Sequence[float],
    *,
    splits: int = 100,
    seed: int = 0,
    curve_of: Callable[[Iterable[Staircase], float], StepCurve] = RiskCurve.from_staircases,
) -> list[BacktestRow]:
    """Realised loss and trusted area of the held-out halves, for each α.

    Args:
        staircases: of the n images.
        sigma_quantiles: float32 [n, q], evenly spaced quantiles of σ per image, from 0 to 1.
        bound: B.
        alphas: the levels.
        splits: number of random halvings.
        seed: of the halvings.
        curve_of: makes the curve of the calibrating half, under the guarantee in question.

    Raises:
        ValueError: fewer than 2 images, or no splits.
    """
    n = len(staircases)
    if n < 2 or splits < 1:
        raise ValueError("a backtest needs at least 2 images and 1 split")
    random = np.random.Generator(np.random.PCG64(seed))
    risks = np.empty((splits, len(alphas)))
    areas = np.empty((splits, len(alphas)))
    for split in range(splits):
        order = random.permutation(n)
        served = order[n // 2 :]
        curve = curve_of((staircases[i] for i in order[: n // 2]), bound)
        for place, alpha in enumerate(alphas):
            threshold = curve.threshold(alpha)
            risks[split, place] = np.mean([staircases[i].loss_below(threshold) for i in served])
            areas[split, place] = trusted_share(sigma_quantiles[served], threshold)
    return [
        BacktestRow(
            alpha,
            *_spread(risks[:, place]),
            *_spread(areas[:, place]),
            float((risks[:, place] > alpha).mean()),
        )
        for place, alpha in enumerate(alphas)
    ]


def _spread(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean, 5 % and 95 % quantile."""
    low, high = np.quantile(values, (0.05, 0.95))
    return float(values.mean()), float(low), float(high)


def trusted_share(sigma_quantiles: NDArray[np.float32], threshold: float) -> float:
    """Mean share of pixels with σ < t, from evenly spaced quantiles [n, q] of each image."""
    below = np.count_nonzero(sigma_quantiles < threshold, axis=1)
    return float(np.minimum(below / (sigma_quantiles.shape[1] - 1), 1).mean())
