"""Fit the weights of σ: what is fitted is what is traded, area against the worst error.

For thresholds t_k and prices λ_k, with s = sigmoid((t_k − log σ)/0.2) for the mask, the mean over
the photographs of

    Σ_k  λ_k · ‖s · D‖_p  −  mean of s

is minimised over the weights and the t_k; the p-norm stands for the maximum, which a good
prediction of the mean or of a quantile of D would not help. It begins at a linear regression of the
97 % quantile of log D. Then the terms that matter least are removed, and the rest is fitted again
(docs/mask-power.md tells what else was tried).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from app.conformal.fitted import Fit
from app.conformal.texture import CELL, Maps, dense_terms

PRICES = (14.0, 8.0, 5.5, 4.0, 2.8)  # area per unit of loss, as the trade goes for α .03 to .13
EDGE = 0.2  # of the soft mask, in log σ
NORM = 32
QUANTILE, BEND = 0.97, 0.1  # of the regression that is begun with
ERROR_FLOOR = 2e-3  # of D under the logarithm: half a grey level
RIDGE, TERMS = 0.03, 24  # cross-validated over the scenes of the shipped fit

# Cells of a photograph that the fit sees: of those with the largest D, and of the others.
_WORST, _OTHERS = 700, 800
_WORST_SHARE = 1 / 23
_MOST_CELLS = 600_000  # of all photographs: half a gigabyte of terms

LEAST_SCENES = 20
"""With fewer, a fit has seen too little to be worth what it takes from the calibration."""

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Seen:
    """The cells of one photograph that the fit sees.

    names: the terms, as `texture.term_names()` calls them.
    terms: float32 [P, T]. error: the largest D in each cell, float32 [P].
    share: the share of the photograph that each cell stands for, float32 [P].
    """

    names: tuple[str, ...]
    terms: Array
    error: Array
    share: Array


def seen(maps: Maps, error: Array) -> Seen:
    """The cells of one photograph: those that can become the worst of a mask, and others.

    Args:
        maps: of the samples.
        error: D of the prediction, float32 [H, W] ≥ 0.

    Raises:
        ValueError: the photograph has fewer than two cells.
    """
    dense = dense_terms(maps)
    flat = np.stack([plane.reshape(-1) for plane in dense.values()], axis=1)
    worst_of_cell = _largest(error).reshape(-1)
    count = len(worst_of_cell)
    if count < 2:
        raise ValueError("the photograph is too small to fit σ on")
    order = np.argsort(-worst_of_cell, kind="stable")
    top = min(max(_WORST, int(_WORST_SHARE * count)), count // 2)
    worst = order[_spread(top, _WORST)]
    rest = order[top:]
    others = np.random.default_rng(0).choice(rest, min(_OTHERS, len(rest)), replace=False)
    cells = np.concatenate([worst, others])
    share = np.repeat(
        [top / len(worst) / count, len(rest) / len(others) / count], [len(worst), len(others)]
    )
    return Seen(tuple(dense), flat[cells], worst_of_cell[cells], share.astype(np.float32))


def _largest(error: Array) -> Array:
    """The largest D of each cell, borders repeated up to whole cells."""
    sides = [(0, -side % CELL) for side in error.shape]
    whole = np.pad(error, sides, mode="edge")
    height, width = (side // CELL for side in whole.shape)
    return np.asarray(whole.reshape(height, CELL, width, CELL).max(axis=(1, 3)))


def _spread(count: int, most: int) -> NDArray[np.intp]:
    """At most so many places of 0 … count − 1, evenly spread, the first among them."""
    return np.linspace(0, count - 1, min(count, most)).astype(np.intp)


def fit(photographs: Sequence[Seen], *, terms: int = TERMS, ridge: float = RIDGE) -> Fit:
    """Weights that trust as much as can be for a given mean of the worst error.

    Args:
        photographs: of one upscaler and M; more than one of a scene are as good as their number.
        terms: how many terms have a weight.
        ridge: penalty on the squared weights of the standardised terms.

    Raises:
        ValueError: no photographs, or photographs with different terms.
    """
    rows = _Rows.of(photographs)
    weights = _minimise(rows, ridge)
    effect = np.abs(weights) * rows.terms.std(axis=(0, 1))
    kept = np.sort(np.argsort(-effect, kind="stable")[:terms])
    chosen = _minimise(_Rows(rows.terms[:, :, kept], rows.error, rows.share), ridge)
    # σ on the scale of D, where they are compared by eye; the mask does not depend on it.
    gap = np.log(rows.error + ERROR_FLOOR) - rows.terms[:, :, kept] @ chosen
    names = photographs[0].names
    return Fit(
        weights=tuple(
            (names[place], round(float(weight), 4))
            for place, weight in zip(kept, chosen, strict=True)
        ),
        offset=round(float((gap * rows.share).sum() / rows.share.sum()), 2),
    )


@dataclass(frozen=True, slots=True)
class _Rows:
    """The cells of all photographs: terms [N, P, T], D [N, P], share of the image [N, P]."""

    terms: Array
    error: Array
    share: Array

    @classmethod
    def of(cls, photographs: Sequence[Seen]) -> _Rows:
        """All photographs with as many cells as the smallest one has."""
        if not photographs:
            raise ValueError("there are no photographs to fit σ on")
        if len({photo.names for photo in photographs}) > 1:
            raise ValueError("the photographs have different terms")
        most = min(_MOST_CELLS // len(photographs), *(len(p.error) for p in photographs))
        parts = []
        for photo in photographs:
            # Cells are in order: the worst of all first.
            places = _spread(len(photo.error), max(1, most))
            share = photo.share[places]
            parts.append((photo.terms[places], photo.error[places], share / share.sum()))
        return cls(*(np.stack(part) for part in zip(*parts, strict=True)))


def _minimise(rows: _Rows, ridge: float) -> NDArray[np.float64]:
    """The weights [T] of the terms in `rows`."""
    photos, _, count = rows.terms.shape
    deviation = rows.terms.std(axis=(0, 1)) + 1e-3
    z = ((rows.terms - rows.terms.mean(axis=(0, 1))) / deviation).reshape(-1, count)
    share = (rows.share / photos).reshape(-1)
    target = np.log(rows.error + ERROR_FLOOR).reshape(-1)

    def regression(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """The quantile loss with a smooth bend."""
        residual = target - z @ x[1:].astype(np.float32) - np.float32(x[0])
        loss = QUANTILE * residual + BEND * np.logaddexp(0, -residual / BEND)
        slope = (QUANTILE - expit(-residual / BEND)) * share
        gradient = -np.append(slope.sum(), z.T @ slope)
        gradient[1:] += ridge * x[1:]
        return float((loss * share).sum() + ridge / 2 * x[1:] @ x[1:]), gradient

    def mask(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """The objective of the module's docstring, divided by the number of thresholds."""
        log_sigma = z @ x[:count].astype(np.float32)
        value, slope, slopes = 0.0, np.zeros_like(log_sigma), []
        for price, threshold in zip(PRICES, x[count:], strict=True):
            soft = expit((np.float32(threshold) - log_sigma) / EDGE)
            # An image without any error has none in its mask either.
            masked = np.maximum(soft.reshape(photos, -1) * rows.error, np.float32(1e-12))
            largest = masked.max(axis=1, keepdims=True)
            ratio = masked / largest
            total = (ratio**NORM).sum(axis=1, keepdims=True)
            value += price * float((largest * total ** (1 / NORM)).mean())
            value -= float((soft * share).sum())
            rising = ratio ** (NORM - 1) * total ** (1 / NORM - 1) * rows.error * price / photos
            step = (rising.reshape(-1) - share) * soft * (1 - soft) / EDGE
            slope -= step
            slopes.append(step.sum())
        gradient = np.append(z.T @ slope, slopes) / len(PRICES)
        gradient[:count] += ridge * x[:count]
        return value / len(PRICES) + ridge / 2 * float(x[:count] @ x[:count]), gradient

    found = _lowest(regression, np.append(target.mean(), np.zeros(count)), 80)
    log_sigma = z @ found[1:].astype(np.float32)
    order = np.argsort(log_sigma)
    places = np.searchsorted(np.cumsum(share[order]), np.linspace(0.45, 0.97, len(PRICES)))
    thresholds = log_sigma[order[np.minimum(places, len(order) - 1)]]
    found = _lowest(mask, np.append(found[1:], thresholds), 150)
    return np.asarray(found[:count] / deviation)


def _lowest(function: Any, begin: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    found = minimize(function, begin, jac=True, method="L-BFGS-B", options={"maxiter": steps})
    return np.asarray(found.x, np.float64)
