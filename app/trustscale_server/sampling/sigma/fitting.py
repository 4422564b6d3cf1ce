"""Fit the weights of σ to the trade itself: area against the worst error of a spot.

For thresholds t_k and prices λ_k, with s = sigmoid((t_k − log σ)/0.2) for the mask, the mean over
the spots of the photographs, windows of 128×128 pixels, of

    Σ_k  λ_k · ‖s · D‖_p  −  mean of s

is minimised over the weights and the t_k; the p-norm stands for the maximum. It begins at a linear
regression of the 97 % quantile of log D. Then the terms that matter least are removed, and the rest
is fitted again; with many photographs, with units that bend where the linear sum cannot
(docs/decisions.md has what else was tried).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from trustscale_server.conformal.fidelity import SPOT
from trustscale_server.conformal.loss_curve import LossCurve
from trustscale_server.conformal.risk_shape import Shape
from trustscale_server.sampling.sigma.features import CELL, Maps
from trustscale_server.sampling.sigma.fits import Fit
from trustscale_server.sampling.sigma.pyramid import dense_terms

_PRICES = (45.0, 30.0, 20.0, 13.0, 8.0)  # area per unit of loss; lower ones trust less at α .03
_EDGE = 0.2  # of the soft mask, in log σ
_NORM = 32
_QUANTILE, _BEND = 0.97, 0.1  # of the regression that is begun with
_ERROR_FLOOR = 2e-3  # of D under the logarithm: half a grey level
# Ridges, on the squared weights of standardised terms and of units: cross-validated over scenes.
_RIDGE, _BENDING = 0.03, 0.003

# Cells of a spot that the fit sees, from those with the largest D on: how many of which shares.
# Among the second lies the largest D in the masks for small α.
_SEEN = ((0, 0.08, 4), (0.08, 0.7, 16), (0.7, 1, 3))

MIN_SCENES = 20
"""With fewer, a fit gains less than it takes from the calibration."""

_Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FitSample:
    """The cells of one photograph that the fit sees, of S spots the same number.

    names: the terms, as `features.term_names()` calls them.
    terms: float32 [S, P, T].
    error: the largest D in each cell, float32 [S, P].
    share: the share of the spot that each cell stands for, float32 [S, P].
    """

    names: tuple[str, ...]
    terms: _Array
    error: _Array
    share: _Array


def fit_sample(maps: Maps, error: _Array) -> FitSample:
    """Draw cells of a photograph: those that can be the worst of a mask, and others.

    `error`: D of the prediction, float32 [H, W] ≥ 0.

    Raises:
        ValueError: the photograph has fewer than two cells.
    """
    return seen_of(dense_terms(maps), largest(error))


def seen_of(terms: Mapping[str, _Array], error: _Array) -> FitSample:
    """Draw cells from the terms and the largest D of all cells, float32 [h, w] each.

    Raises ValueError as `fit_sample`.
    """
    if error.size < 2:
        raise ValueError("the photograph is too small to fit σ on")
    windows = _windows(*error.shape)
    seen, errors, shares = [], [], []
    for place in _spread(len(windows), 16):
        worst = error[windows[place]].reshape(-1)
        order, count = np.argsort(-worst, kind="stable"), len(worst)
        ranks = [(order[int(begin * count) : int(end * count)], most) for begin, end, most in _SEEN]
        chosen = [of_rank[_spread(len(of_rank), most)] for of_rank, most in ranks]
        cells = np.concatenate(chosen)
        seen.append(
            np.stack([t[windows[place]].reshape(-1)[cells] for t in terms.values()], axis=1)
        )
        errors.append(worst[cells])
        shares.append(
            np.concatenate(
                [
                    np.full(
                        len(cells_of_rank),
                        len(of_rank) / max(len(cells_of_rank), 1) / count,
                        np.float32,
                    )
                    for cells_of_rank, (of_rank, _) in zip(chosen, ranks, strict=True)
                ]
            )
        )
    return FitSample(tuple(terms), np.stack(seen), np.stack(errors), np.stack(shares))


def _windows(height: int, width: int) -> list[tuple[slice, slice]]:
    """The spots of a photograph in cells, which overlap where they would not fill it."""

    def along(length: int) -> list[slice]:
        side = min(SPOT // CELL, length)
        starts = np.linspace(0, length - side, -(-length // side)).astype(int)
        return [slice(start, start + side) for start in starts]

    return [(rows, columns) for rows in along(height) for columns in along(width)]


def largest(error: _Array) -> _Array:
    """Return the largest D of each cell, float32 [⌈H/4⌉, ⌈W/4⌉]."""
    sides = [(0, -side % CELL) for side in error.shape]
    whole = np.pad(error, sides, mode="edge")
    height, width = (side // CELL for side in whole.shape)
    return np.asarray(whole.reshape(height, CELL, width, CELL).max(axis=(1, 3)))


def _spread(count: int, most: int) -> NDArray[np.intp]:
    """At most `most` places of 0 … count − 1, evenly spread, the first among them."""
    return np.linspace(0, count - 1, min(count, most)).astype(np.intp)


def units_for(scenes: int) -> int:
    """Return how many units bend in a fit on this number of scenes.

    With fewer than 150 they learn more by heart than they gain.
    """
    return 16 if scenes >= 150 else 0


def fit(
    photographs: Sequence[FitSample],
    *,
    terms: int = 24,
    units: int = 0,
    cells: int = 600_000,
) -> Fit:
    """Fit weights that trust as much as possible for a given mean of the worst error.

    Args:
        photographs: of one upscaler and M; several of one scene count as many.
        terms: how many have a weight; the default is cross-validated over scenes.
        units: how many bend.
        cells: how many of all photographs are used; by default half a gigabyte of terms.

    Raises:
        ValueError: no photographs, or photographs with different terms.
    """
    rows = _Rows.from_photographs(photographs, cells)
    # The terms are chosen on every third cell, and weighed on all.
    effect = np.abs(_minimise(rows.every(3), 0).linear)
    strongest = np.sort(np.argsort(-effect, kind="stable")[:terms])
    chosen = replace(rows, terms=rows.terms[:, :, strongest])
    names = [photographs[0].names[place] for place in strongest]
    net = _minimise(chosen, units).of_raw(chosen)
    fitted = Fit(
        weights=tuple(zip(names, np.round(net.linear, 4).tolist(), strict=True)),
        units=tuple(
            (round(float(out), 4), round(float(bias), 4), *np.round(weights, 4).tolist())
            for out, bias, weights in zip(net.out, net.bias, net.bent, strict=True)
        ),
    )
    # σ on the scale of D, where they are compared by eye; the mask does not depend on it.
    gap = np.log(rows.error + _ERROR_FLOOR) - fitted.log_sigma(np.moveaxis(chosen.terms, 2, 0))
    fitted = replace(fitted, offset=round(float((gap * rows.share).sum() / rows.share.sum()), 2))
    return replace(fitted, shape=_shape(fitted, chosen))


def _shape(fitted: Fit, rows: _Rows) -> tuple[tuple[float, float], ...]:
    """The risk curve of the photographs, from the cells that the fit saw."""
    sigma = np.exp(fitted.log_sigma(np.moveaxis(rows.terms, 2, 0))).astype(np.float32)
    shape = Shape.from_loss_curves(map(LossCurve.from_maps, sigma, rows.error))
    knots = () if shape is None else zip(shape.levels, shape.risks, strict=True)
    return tuple((float(f"{level:.6g}"), float(f"{risk:.6g}")) for level, risk in knots)


@dataclass(frozen=True, slots=True)
class _Rows:
    """The cells of N spots: terms [N, P, T], D [N, P], share of the spot [N, P]."""

    terms: _Array
    error: _Array
    share: _Array

    @property
    def mean(self) -> _Array:
        return np.asarray(self.terms.mean(axis=(0, 1)))

    @property
    def deviation(self) -> _Array:
        """Of each term, [T]; a constant one stays small."""
        return np.asarray(self.terms.std(axis=(0, 1)) + 0.02)

    def every(self, step: int) -> _Rows:
        share = self.share[:, ::step]
        whole = share.sum(axis=1, keepdims=True)
        return _Rows(self.terms[:, ::step], self.error[:, ::step], share / whole)

    @classmethod
    def from_photographs(cls, photographs: Sequence[FitSample], cells: int) -> _Rows:
        """All spots with as many cells as the smallest one has."""
        if not photographs:
            raise ValueError("there are no photographs to fit σ on")
        if len({photo.names for photo in photographs}) > 1:
            raise ValueError("the photographs have different terms")
        spots = sum(len(photo.error) for photo in photographs)
        most = min(cells // spots, *(photo.error.shape[1] for photo in photographs))
        of_photographs = []
        for photo in photographs:
            # Cells are in order: the worst of all first.
            places = _spread(photo.error.shape[1], max(1, most))
            share = photo.share[:, places]
            share = share / share.sum(axis=1, keepdims=True)
            of_photographs.append((photo.terms[:, places], photo.error[:, places], share))
        return cls(*(np.concatenate(column) for column in zip(*of_photographs, strict=True)))


@dataclass(frozen=True, slots=True)
class _Net:
    """linear[T] · z + Σ_k out[K] · max(0, bias[K] + bent[K, T] · z) of standardised terms z."""

    linear: NDArray[np.float64]
    out: NDArray[np.float64]
    bias: NDArray[np.float64]
    bent: NDArray[np.float64]

    @classmethod
    def from_numbers(cls, x: NDArray[np.float64], terms: int) -> _Net:
        """From its numbers in one row, in the order of the fields."""
        units = (len(x) - terms) // (terms + 2)
        linear, out, bias, bent = np.split(x, np.cumsum([terms, units, units]))
        return cls(linear, out, bias, bent.reshape(units, terms))

    def of_raw(self, rows: _Rows) -> _Net:
        """The same function, but for a constant, of the terms as they are."""
        bent = self.bent / rows.deviation
        return _Net(self.linear / rows.deviation, self.out, self.bias - bent @ rows.mean, bent)


def _minimise(rows: _Rows, units: int) -> _Net:
    """The net with the lowest objective on the photographs in `rows`."""
    spots, _, count = rows.terms.shape
    z = ((rows.terms - rows.mean) / rows.deviation).reshape(-1, count)
    share = (rows.share / spots).reshape(-1)
    target = np.log(rows.error + _ERROR_FLOOR).reshape(-1)

    def regression(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """The quantile loss with a smooth bend."""
        residual = target - z @ x[1:].astype(np.float32) - np.float32(x[0])
        loss = _QUANTILE * residual + _BEND * np.logaddexp(0, -residual / _BEND)
        slope = (_QUANTILE - scipy.special.expit(-residual / _BEND)) * share
        gradient = -np.append(slope.sum(), z.T @ slope)
        gradient[1:] += _RIDGE * x[1:]
        return float((loss * share).sum() + _RIDGE / 2 * x[1:] @ x[1:]), gradient

    def mask(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """The objective of the module's docstring, divided by the number of thresholds."""
        net = _Net.from_numbers(x[steps:].astype(np.float32), count)
        bent = np.maximum(z @ net.bent.T + net.bias, 0)
        log_sigma = z @ net.linear + bent @ net.out
        value, slope, slopes = 0.0, np.zeros_like(log_sigma), []
        for price, threshold in zip(_PRICES, x[:steps], strict=True):
            soft = scipy.special.expit((np.float32(threshold) - log_sigma) / np.float32(_EDGE))
            # A spot without any error has none in its mask either.
            masked = np.maximum(soft.reshape(spots, -1) * rows.error, np.float32(1e-12))
            largest = masked.max(axis=1, keepdims=True)
            ratio = masked / largest
            total = (ratio**_NORM).sum(axis=1, keepdims=True)
            value += price * float((largest * total ** (1 / _NORM)).mean())
            value -= float((soft * share).sum())
            rising = ratio ** (_NORM - 1) * total ** (1 / _NORM - 1) * rows.error * price / spots
            step = (rising.reshape(-1) - share) * soft * (1 - soft) / _EDGE
            slope -= step.astype(np.float32)
            slopes.append(step.sum())
        through = slope[:, None] * net.out * (bent > 0)
        gradients = (z.T @ slope, bent.T @ slope, through.sum(axis=0), (through.T @ z).reshape(-1))
        gradient = np.concatenate([slopes, *gradients]) / len(_PRICES)
        held = penalty[: len(x)]  # without units at first
        gradient += held * x
        return value / len(_PRICES) + float(held @ x**2) / 2, gradient

    steps = len(_PRICES)
    penalty = np.repeat([0.0, _RIDGE, _BENDING], [steps, count, units * (count + 2)])
    weights = _lowest(regression, np.append(target.mean(), np.zeros(count)), 80)
    log_sigma = z @ weights[1:].astype(np.float32)
    order = np.argsort(log_sigma)
    places = np.searchsorted(np.cumsum(share[order]), np.linspace(0.45, 0.97, steps))
    thresholds = log_sigma[order[np.minimum(places, len(order) - 1)]]
    weights = _lowest(mask, np.concatenate([thresholds, weights[1:]]), 120)
    if units:
        # Units that bend anywhere, and add nothing yet.
        bent = np.random.default_rng(0).normal(0, count**-0.5, units * count)
        begin = np.concatenate([weights, np.zeros(units), np.full(units, 0.1), bent])
        weights = _lowest(mask, begin, 200)
    return _Net.from_numbers(weights[steps:], count)


def _lowest(function: Any, begin: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    minimum = scipy.optimize.minimize(
        function, begin, jac=True, method="L-BFGS-B", options={"maxiter": steps}
    )
    return np.asarray(minimum.x, np.float64)
