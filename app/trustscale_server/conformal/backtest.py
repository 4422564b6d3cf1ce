"""What to expect of a calibration, from its own loss curves.

In repeated random splits half of the scenes calibrate, the others are served; nothing is
generated. The splits are not independent, so the intervals describe the spread over splits.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trustscale_server.conformal.calibration_set import CalibrationSet
from trustscale_server.conformal.loss_curve import LossCurve
from trustscale_server.conformal.risk_curve import RiskCurve
from trustscale_server.conformal.scenes import places_of
from trustscale_server.conformal.step_curve import StepCurve

_MAX_TRUSTED: Final = 0.95
"""Share of the calibrating area beyond which nothing more is trusted: an α that would trust it all
promises nothing about where errors are."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """What is known of each pair of a calibration.

    spots: the loss curves of its spots. scenes: its scene. weights: what it counts of that.
    sigma_quantiles: float32 [pairs, q], evenly spaced, from 0 to 1. losses_at: the mean loss of the
    spots of each, float64 [pairs], inside {σ < t}.
    """

    spots: Sequence[Sequence[LossCurve]]
    scenes: Sequence[Hashable]
    weights: Sequence[Fraction]
    sigma_quantiles: NDArray[np.float32]
    losses_at: Callable[[float], NDArray[np.float64]]


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
    pairs: Pairs,
    bound: float,
    alphas: Sequence[float],
    *,
    splits: int = 100,
    seed: int = 0,
    curve_of: Callable[[CalibrationSet], StepCurve] = RiskCurve.from_calibration_set,
    before_split: Callable[[], None] = lambda: None,
) -> list[BacktestRow]:
    """Estimate loss and trusted area of held-out halves, for each α.

    curve_of: makes the curve of the half that calibrates.
    before_split: called before each; what it raises ends the backtest.

    Raises:
        ValueError: fewer than 2 scenes, or no splits.
    """
    members = places_of(pairs.scenes)
    n = len(members)
    if n < 2 or splits < 1:
        raise ValueError("a backtest needs at least 2 images of different scenes and 1 split")
    random = np.random.Generator(np.random.PCG64(seed))
    risks = np.empty((splits, len(alphas)))
    areas = np.empty((splits, len(alphas)))
    for split in range(splits):
        before_split()
        order = random.permutation(n)
        served = np.concatenate([members[k] for k in order[n // 2 :]])
        fitted = [i for k in order[: n // 2] for i in members[k]]
        weights_of_fitted = [pairs.weights[i] for i in fitted]
        curve = curve_of(
            CalibrationSet.from_pictures(
                [pairs.spots[i] for i in fitted],
                bound,
                scenes=[pairs.scenes[i] for i in fitted],
                weights=weights_of_fitted,
                highest=highest_trusted(pairs.sigma_quantiles[fitted], weights_of_fitted),
            )
        )
        weights = np.array([float(pairs.weights[i]) for i in served])
        for place, alpha in enumerate(alphas):
            threshold = curve.threshold(alpha)
            losses = pairs.losses_at(threshold)[served]
            risks[split, place] = np.average(losses, weights=weights)
            shares = trusted_shares(pairs.sigma_quantiles[served], threshold)
            areas[split, place] = np.average(shares, weights=weights)
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


def sigma_quantiles(sigma: NDArray[np.float32], levels: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the quantiles of σ at levels in [0, 1], interpolated in float64.

    The bits are those of `np.quantile`; sorting is faster than selecting a hundred ranks.
    """
    ordered = np.sort(sigma, axis=None)
    place = levels * (ordered.size - 1)
    below = np.floor(place).astype(np.intp)
    low, high = ordered[below], ordered[np.minimum(below + 1, ordered.size - 1)]
    share, step = place - below, high - low
    quantiles = np.where(share < 0.5, low + step * share, high - step * (1 - share))
    return quantiles.astype(np.float32)


def trusted_shares(sigma_quantiles: NDArray[np.float32], threshold: float) -> NDArray[np.float64]:
    """Return the share of pixels with σ < t of each image, from quantiles [images, q]."""
    below = np.count_nonzero(sigma_quantiles < threshold, axis=1)
    return np.asarray(np.minimum(below / (sigma_quantiles.shape[1] - 1), 1))


def highest_trusted(sigma_quantiles: NDArray[np.float32], weights: Sequence[Fraction]) -> float:
    """Return the least σ that `_MAX_TRUSTED` of the images' weighted area does not exceed.

    From evenly spaced quantiles [images, q].
    """
    steps = sigma_quantiles.shape[1] - 1
    values = sigma_quantiles[:, 1:].reshape(-1)
    areas = np.repeat([float(weight) / steps for weight in weights], steps)
    order = np.argsort(values)
    below = np.cumsum(areas[order])
    return float(values[order][np.searchsorted(below, _MAX_TRUSTED * below[-1])])
