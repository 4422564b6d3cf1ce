"""What to expect of a calibration, from its own loss curves: repeated random splits.

Half of the scenes calibrate, the others are served; nothing is generated. The splits are not
independent, so the intervals describe the spread over splits.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trustscale_server.conformal.curve import RiskCurve, StepCurve, places_of
from trustscale_server.conformal.loss_curve import LossCurve


@dataclass(frozen=True, slots=True)
class BacktestRow:
    """One α: mean, 5 % and 95 % quantile over the splits.

    violations: share of the splits whose served half lost more than α on average: about half for a
    guarantee in expectation; about δ for one with high probability, and more with few scenes.
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
    loss_curves: Sequence[LossCurve],
    sigma_quantiles: NDArray[np.float32],
    bound: float,
    alphas: Sequence[float],
    *,
    splits: int = 100,
    seed: int = 0,
    scenes: Sequence[Hashable] | None = None,
    curve_of: Callable[..., StepCurve] = RiskCurve.from_loss_curves,
    loss_of: Callable[[LossCurve], LossCurve] = lambda loss_curve: loss_curve,
) -> list[BacktestRow]:
    """Realised loss and trusted area of the held-out halves, for each α.

    sigma_quantiles: float32 [images, q], evenly spaced quantiles of σ of each, from 0 to 1.
    scenes: the scene of each image, which is never divided; None: every image is its own.
    curve_of: as `RiskCurve.from_loss_curves`.
    loss_of: what is counted of an image, given the loss curve of its error.

    Raises:
        ValueError: fewer than 2 scenes, or no splits.
    """
    members = places_of(range(len(loss_curves)) if scenes is None else scenes)
    n = len(members)
    if n < 2 or splits < 1:
        raise ValueError("a backtest needs at least 2 images of different scenes and 1 split")
    random = np.random.Generator(np.random.PCG64(seed))
    counted = list(map(loss_of, loss_curves))
    risks = np.empty((splits, len(alphas)))
    areas = np.empty((splits, len(alphas)))
    for split in range(splits):
        order = random.permutation(n)
        served = [members[k] for k in order[n // 2 :]]
        fitted = np.concatenate([members[k] for k in order[: n // 2]])
        curve = curve_of(
            [loss_curves[i] for i in fitted],
            bound,
            scenes=None if scenes is None else [scenes[i] for i in fitted],
            highest=float(sigma_quantiles[fitted].max()),
        )
        for place, alpha in enumerate(alphas):
            threshold = curve.threshold(alpha)
            risks[split, place] = np.mean(mean_losses(counted, served, threshold))
            areas[split, place] = trusted_shares(sigma_quantiles, threshold, served).mean()
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
    low, high = np.quantile(values, (0.05, 0.95))
    return float(values.mean()), float(low), float(high)


def mean_losses(
    loss_curves: Sequence[LossCurve], members: Sequence[Sequence[int]], threshold: float
) -> list[float]:
    """L̄_i(t−) of each scene, given the places of its images."""
    return [
        float(np.mean([loss_curves[i].loss_below(threshold) for i in places])) for places in members
    ]


def sigma_quantiles(sigma: NDArray[np.float32], levels: NDArray[np.float64]) -> NDArray[np.float32]:
    """The quantiles of σ at levels in [0, 1], interpolated in float64.

    The bits are those of `np.quantile`; sorting is faster than selecting a hundred ranks.
    """
    ordered = np.sort(sigma, axis=None)
    place = levels * (ordered.size - 1)
    below = np.floor(place).astype(np.intp)
    low, high = ordered[below], ordered[np.minimum(below + 1, ordered.size - 1)]
    share, step = place - below, high - low
    found = np.where(share < 0.5, low + step * share, high - step * (1 - share))
    return found.astype(np.float32)


def trusted_shares(
    sigma_quantiles: NDArray[np.float32], threshold: float, members: Sequence[Sequence[int]]
) -> NDArray[np.float64]:
    """Share of pixels with σ < t of each scene: the mean over its images, given their places.

    sigma_quantiles: evenly spaced quantiles [images, q] of each image.
    """
    below = np.count_nonzero(sigma_quantiles < threshold, axis=1)
    shares = np.minimum(below / (sigma_quantiles.shape[1] - 1), 1)
    return np.array([shares[places].mean() for places in members])
