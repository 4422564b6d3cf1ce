"""A curve for one batch of uploads, weighed by how much the calibration's pictures are like it.

A folder of scans, or the frames of one camera, is not a draw from all of the pictures that
calibrated. Its uploads show how it differs, before anything is generated: each is described by
numbers φ (`kinds/statistics.py`). If the errors of pictures with equal φ are alike, in the batch
as in the calibration (*covariate shift*), the risk in the batch is that of the calibrating
pictures, each weighed by the **likelihood ratio** r(φ) = dQ/dP of batch and calibration:

    R_Q(t) = (Σ_k r_k L̄_k(t) + r B) / (Σ_k r_k + r),   t_Q = sup{t : R_Q(t) ≤ α}

With the true r, E_Q[L(t_Q−)] ≤ α (Tibshirani et al. 2019, "Conformal prediction under covariate
shift"; the proof of `RiskCurve` with weighted exchangeability). Here r is *estimated* from a few
uploads, and φ does not say all, so **nothing is proven of R_Q**. Therefore it only takes away: the
curve that is used is the larger one of the calibration's and R_Q (`StepCurve.at_least`). Its mask
of every α is a part of the mask that is proven without the batch, and keeps that promise.

**The ratio.** A classifier that tells the uploads of the batch from the calibrating pictures has
the odds r: a logistic regression with both sides of equal weight, on standardised numbers, with a
ridge that keeps a few uploads from being told by chance. r is held between e^−3 and e^3. The new
picture counts as the largest r of the batch, at most as any calibrating one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trustscale_server.conformal.loss_curve import LossCurves
from trustscale_server.conformal.scenes import UNITS_OF_LOSS, summed
from trustscale_server.conformal.step_curve import LARGEST, StepCurve, rises

MIN_UPLOADS: Final = 6
"""Uploads of a batch below which no ratio is estimated."""

_MAX_LOG: Final = 3.0  # of r
_CUT: Final = 4.0  # standard deviations to which numbers are held


class Ratios(NamedTuple):
    """r of the calibrating pictures, float64 [n] with mean 1, and of a new one of the batch."""

    calibrated: NDArray[np.float64]
    new: float


def likelihood_ratios(calibrated: NDArray[np.float32], batch: NDArray[np.float32]) -> Ratios:
    """Estimate how much more frequent pictures like each of the calibration's are in the batch.

    Args:
        calibrated: numbers φ of the calibrating pictures, [n, d].
        batch: of the uploads, [m, d].

    Raises:
        ValueError: fewer than `MIN_UPLOADS` uploads, no calibrating picture, or another d.
    """
    if len(batch) < MIN_UPLOADS or not len(calibrated) or calibrated.shape[1:] != batch.shape[1:]:
        raise ValueError(f"cannot weigh {calibrated.shape} pictures by {batch.shape} uploads")
    centre, spread = calibrated.mean(axis=0), calibrated.std(axis=0) + 1e-6
    both = np.concatenate([calibrated, batch]).astype(np.float64)
    columns = np.column_stack([np.ones(len(both)), np.clip((both - centre) / spread, -_CUT, _CUT)])
    is_batch = np.arange(len(columns)) >= len(calibrated)
    weights = np.where(is_batch, 1 / len(batch), 1 / len(calibrated))
    # As measured on 84 kinds of uploads (`benchmarks.risk --batch`).
    ridge = np.full(columns.shape[1], 0.03)
    ridge[0] = 0.0
    rule = np.zeros(columns.shape[1])
    for _ in range(30):  # Newton's method converges in fewer steps
        share = 1 / (1 + np.exp(-np.clip(columns @ rule, -30, 30)))
        slope = columns.T @ (weights * (share - is_batch)) + ridge * rule
        curvature = (columns * (weights * share * (1 - share) + 1e-12)[:, None]).T @ columns
        step = np.linalg.solve(curvature + np.diag(ridge + 1e-9), slope)
        rule -= step
        if np.abs(step).max() < 1e-9:
            break
    ratios = np.exp(np.clip(columns @ rule, -_MAX_LOG, _MAX_LOG))
    of_calibrated, of_batch = ratios[: len(calibrated)], ratios[len(calibrated) :]
    mean = of_calibrated.mean()
    new = min(of_batch.max(), of_calibrated.max())
    return Ratios(of_calibrated / mean, float(new / mean))


def adapted_curve(
    loss_curves: LossCurves,
    spots: NDArray[np.int64],
    bound: float,
    ratios: Ratios,
    *,
    highest: float = LARGEST,
) -> StepCurve:
    """Return R_Q, the risk in a batch of uploads that these ratios describe.

    Args:
        loss_curves: of the spots of all calibrating pictures, one after the other.
        spots: how many each picture has, [n].
        bound: B.
        ratios: of the same pictures.
        highest: a σ beyond which nothing is trusted.
    """
    everything = ratios.calibrated.sum() + ratios.new
    of_spot = np.repeat(ratios.calibrated / spots / everything, spots)
    weighed = loss_curves.errors * np.repeat(of_spot, loss_curves.lengths)
    units = np.ceil(weighed * UNITS_OF_LOSS).astype(np.int64)
    total = summed(loss_curves.levels, units, loss_curves.lengths)
    start = bound * ratios.new / everything
    values = np.append(start, np.minimum(start + total.totals / UNITS_OF_LOSS, bound))
    n = _equal_ones(ratios.calibrated)
    return StepCurve(n, bound, *rises(total.levels, values), highest=highest)


def effective_number(ratios: NDArray[np.float64], members: Sequence[Sequence[int]]) -> float:
    """Return how many equal scenes say as much as those of these pictures: (ΣW)²/ΣW²."""
    return _equal_ones(np.array([ratios[list(places)].mean() for places in members]))


def _equal_ones(weights: NDArray[np.float64]) -> float:
    """How many equal weights say as much as these."""
    return float(np.square(weights.sum()) / np.square(weights).sum())
