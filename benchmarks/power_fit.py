"""Fit the weights of the learned σ: `python -m benchmarks.power_fit PHOTOGRAPHS`.

The photographs must have no part in any calibration that the weights are used with. Printed is
what stands in `app/conformal/fits/learned.json`. `--choose` cross-validates the settings of the fit
instead, photographs of one scene (`pool_id` of a manifest.csv) always on one side.

**What is fitted.** The area of the mask at a given mean of the worst error, and nothing that stands
in for it. For thresholds t_k and prices λ_k, with s = sigmoid((t_k − log σ)/0.2) for the mask, the
mean over the photographs of

    Σ_k  λ_k · ‖s · D‖_p  −  mean of s

is minimised over the weights and the t_k; the p-norm stands for the maximum. It begins at a linear
regression of the 97 % quantile of log D. Then the terms that matter least are removed, and the rest
is fitted again.
"""

from __future__ import annotations

import argparse
import csv
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from app.conformal import RiskCurve, Staircase, fidelity, texture
from benchmarks.power import ALPHAS, folded, photographs
from benchmarks.table import print_table

PRICES = (14.0, 8.0, 5.5, 4.0, 2.8)  # area per unit of loss, as the trade goes for α .03 to .13
EDGE = 0.2  # of the soft mask, in log σ
NORM = 32
QUANTILE, BEND = 0.97, 0.1  # of the regression that is begun with
SEEN = (700, 800)  # cells of a photograph: those of the largest D, and some of the others
ERROR_FLOOR = 2e-3  # of D under the logarithm: half a grey level

# Chosen by --choose.
RIDGE, TERMS = 0.03, 24
CHOICES = [(ridge, terms) for ridge in (0.01, 0.03, 0.1) for terms in (100, 48, 24, 12)]

Array = NDArray[np.float32]


class Photograph(NamedTuple):
    """One photograph on the cells of level 0: all terms [T, h, w], and the largest D [h, w]."""

    terms: Array
    error: Array


@dataclass
class Rows:
    """The cells that the fit sees: terms [N, P, T], D [N, P], and the share of the image [N, P]."""

    terms: Array
    error: Array
    share: Array

    @classmethod
    def of(cls, photos: list[Photograph]) -> Rows:
        """All cells that can become the worst of a mask, and a sample of the rest."""
        worst, others = SEEN
        random = np.random.default_rng(0)
        picked = []
        for photo in photos:
            error = photo.error.reshape(-1)
            order = np.argsort(-error, kind="stable")
            rest = random.choice(order[worst:], others, replace=False)
            cells = np.concatenate([order[:worst], rest])
            share = np.repeat([1, (len(error) - worst) / others], SEEN) / len(error)
            terms = photo.terms.reshape(len(photo.terms), -1)[:, cells].T
            picked.append((terms, error[cells], share.astype(np.float32)))
        return cls(*(np.stack(part) for part in zip(*picked, strict=True)))


def reduced(path: Path) -> Photograph:
    """A photograph's samples as terms and error."""
    with np.load(path) as arrays:
        truth, samples = arrays["y"], arrays["s"]
    accumulator = folded(samples)
    error = fidelity.error(truth, samples[0])
    height, width = (side // texture.CELL for side in error.shape)
    cells = error.reshape(height, texture.CELL, width, texture.CELL).max(axis=(1, 3))
    return Photograph(np.stack([*texture.dense_terms(accumulator.maps()).values()]), cells)


def fit(rows: Rows, ridge: float) -> NDArray[np.float64]:
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
            masked = soft.reshape(photos, -1) * rows.error
            ratio = masked / masked.max(axis=1, keepdims=True)
            total = (ratio**NORM).sum(axis=1, keepdims=True)
            norm = masked.max(axis=1, keepdims=True) * total ** (1 / NORM)
            value += price * float(norm.mean()) - float((soft * share).sum())
            rising = ratio ** (NORM - 1) * total ** (1 / NORM - 1) * rows.error * price / photos
            step = (rising.reshape(-1) - share) * soft * (1 - soft) / EDGE
            slope -= step
            slopes.append(step.sum())
        gradient = np.append(z.T @ slope, slopes) / len(PRICES)
        gradient[:count] += ridge * x[:count]
        return value / len(PRICES) + ridge / 2 * float(x[:count] @ x[:count]), gradient

    begin = np.append(target.mean(), np.zeros(count))
    found = minimize(regression, begin, jac=True, method="L-BFGS-B", options={"maxiter": 80})
    log_sigma = z @ found.x[1:].astype(np.float32)
    order = np.argsort(log_sigma)
    places = np.searchsorted(np.cumsum(share[order]), np.linspace(0.45, 0.97, len(PRICES)))
    begin = np.append(found.x[1:], log_sigma[order[np.minimum(places, len(order) - 1)]])
    found = minimize(mask, begin, jac=True, method="L-BFGS-B", options={"maxiter": 150})
    return np.asarray(found.x[:count] / deviation)


def pruned(rows: Rows, ridge: float, terms: int) -> NDArray[np.float64]:
    """Weights of which `terms` are not zero: those that move log σ most when all are fitted."""
    weights = fit(rows, ridge)
    effect = np.abs(weights) * rows.terms.std(axis=(0, 1))
    kept = np.sort(np.argsort(-effect, kind="stable")[:terms])
    sparse = np.zeros_like(weights)
    sparse[kept] = fit(Rows(rows.terms[:, :, kept], rows.error, rows.share), ridge)
    return sparse


def area(photos: list[Photograph], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean area of the mask for each of `ALPHAS`, calibrated and measured on the same photographs.

    As if there were 243 of them: for comparing weights, not for a promise.
    """
    sigmas = [np.exp(np.tensordot(weights.astype(np.float32), p.terms, 1)) for p in photos]
    stairs = [Staircase.from_maps(s, p.error) for s, p in zip(sigmas, photos, strict=True)]
    curve = RiskCurve.from_staircases(stairs * (243 // len(stairs)), fidelity.bound())
    limits = [curve.threshold(alpha) for alpha in ALPHAS]
    return np.array([np.mean([(s < limit).mean() for s in sigmas]) for limit in limits])


def choose(photos: list[Photograph], scenes: list[str]) -> None:
    """Two-fold cross-validation over scenes."""
    side = np.array([sorted(set(scenes)).index(scene) % 2 for scene in scenes])
    rows = []
    for ridge, terms in CHOICES:
        found = []
        for held in (0, 1):
            seen = Rows.of([p for p, s in zip(photos, side, strict=True) if s != held])
            rest = [p for p, s in zip(photos, side, strict=True) if s == held]
            found.append(area(rest, pruned(seen, ridge, terms)))
        mean = np.mean(found, axis=0)
        rows.append((ridge, terms, *(f"{a:.3f}" for a in mean), f"{mean.mean():.3f}"))
    print_table(("ridge", "terms", *(f"α = {alpha:g}" for alpha in ALPHAS), "mean"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--choose", action="store_true", help="cross-validate the settings")
    parser.add_argument("--cache", type=Path, default=Path(gettempdir()) / "trustscale-power")
    given = parser.parse_args()
    paths = photographs(given.photographs, given.cache)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        photos = list(pool.map(reduced, paths, chunksize=4))
    if given.choose:
        with (given.photographs / "manifest.csv").open() as table:
            scenes = {Path(row["file"]).stem: row["pool_id"] for row in csv.DictReader(table)}
        choose(photos, [scenes[path.stem] for path in paths])
        return
    rows = Rows.of(photos)
    weights = pruned(rows, RIDGE, TERMS)
    # σ on the scale of D, where they are compared by eye; the mask does not depend on it.
    gap = np.log(rows.error + ERROR_FLOOR) - rows.terms @ weights
    print(f"OFFSET = {(gap * rows.share).sum() / rows.share.sum():.2f}\nWEIGHTS = {{")
    names = [name for name in texture.term_names() if "residual" not in name]
    for name, weight in zip(names, weights, strict=True):
        if weight:
            print(f'    "{name}": {weight:.4f},')
    print("}")


if __name__ == "__main__":
    main()
