"""An interval per pixel and channel, a baseline of the paper (its §4).

Angelopoulos et al. 2022b, "Image-to-Image Regression with Distribution-Free Uncertainty
Quantification and Applications in Imaging": nested sets T_λ = [Ŷ − λ·l, Ŷ + λ·u] with heuristic
half-widths l and u; the loss of an image is the share of its values outside; with probability at
least 1 − δ over the calibration images, the expected share outside is at most α. Here the quantiles
of the samples give l = Ŷ − q_low, u = q_high − Ŷ. Values are 8-bit levels and quantiles are order
statistics, so the joint histogram of (half-width, distance) gives the share outside exactly at
every λ of the grid `LAMBDAS`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from trustscale_server.pixels.lab import Pixels

LAMBDAS: NDArray[np.float64] = np.concatenate([[0.0], np.geomspace(1 / 255, 255, 1023)])
"""The scales; at the last one even a half-width of 1 reaches every level."""
LAMBDAS.setflags(write=False)

_LOW, _HIGH = 0.05, 0.95
"""Quantiles of the samples, as order statistics (rounded outwards)."""

_FLOOR = 1
"""Least half-width in levels: with 0, where all samples agree, no scale would reach the truth."""

_LEVELS = 256

HalfWidths = tuple[Pixels, Pixels]


def half_widths(samples: Pixels, prediction: Pixels) -> HalfWidths:
    """Return the half-widths l and u, uint8 [H, W, 3] each, at least `_FLOOR`.

    Of samples, uint8 [M, H, W, 3]; a bound on the wrong side of Ŷ counts as Ŷ itself.
    """
    last = len(samples) - 1
    low, high = math.floor(_LOW * last), math.ceil(_HIGH * last)
    if (low, high) == (0, last):  # as for few samples
        lowest, highest = samples.min(axis=0), samples.max(axis=0)
    else:
        lowest, highest = np.empty_like(prediction), np.empty_like(prediction)
        for row in range(len(lowest)):  # a row at a time: no copy of all samples
            ordered = np.sort(samples[:, row], axis=0)
            lowest[row], highest[row] = ordered[low], ordered[high]
    below = prediction - np.minimum(lowest, prediction)
    above = np.maximum(highest, prediction) - prediction
    floor = np.uint8(_FLOOR)
    return np.maximum(below, floor, out=below), np.maximum(above, floor, out=above)


def miss_curve(truth: Pixels, prediction: Pixels, widths: HalfWidths) -> NDArray[np.float64]:
    """Return the loss of one image at every λ of `LAMBDAS`: its share of values outside."""
    below, above = widths
    is_above = truth > prediction
    distance = np.where(is_above, truth - prediction, prediction - truth)
    width = np.where(is_above, above, below)
    joint = np.bincount(
        (width.astype(np.uint16) * _LEVELS + distance).reshape(-1), minlength=_LEVELS**2
    ).reshape(_LEVELS, _LEVELS)
    # farther[w, d]: number of values of half-width w whose distance exceeds d.
    farther = joint.sum(axis=1, keepdims=True) - np.cumsum(joint, axis=1)
    every_width = np.arange(_LEVELS)
    outside = farther[every_width, _reach(LAMBDAS[:, None], every_width)].sum(axis=1)
    return np.asarray(outside / truth.size)


def hoeffding_bentkus_p_value(mean: ArrayLike, n: int, alpha: ArrayLike) -> NDArray[np.float64]:
    """Return the p-value of "E[x] exceeds A", for the mean x̄ of n ≥ 1 independent x in [0, 1].

    min(exp(−n h₁(min(x̄, A), A)), e · P(Bin(n, A) ≤ ⌈n x̄⌉)) with the Kullback-Leibler divergence h₁
    of two Bernoulli laws. `alpha` is A in (0, 1), broadcast against the mean. The value may
    exceed 1.
    """
    x, share = np.asarray(mean, np.float64), np.asarray(alpha, np.float64)
    below = np.minimum(x, share)
    divergence = scipy.special.rel_entr(below, share)
    divergence = divergence + scipy.special.rel_entr(1 - below, 1 - share)
    bentkus = math.e * scipy.special.bdtr(np.ceil(n * x), n, share)
    return np.asarray(np.minimum(np.exp(-n * divergence), bentkus))


def interval_scale(
    curves: Sequence[NDArray[np.float64]] | NDArray[np.float64], *, alpha: float, delta: float
) -> float:
    """Return λ̂, the smallest scale above which every scale is certified (their Algorithm 2), or ∞.

    From the largest λ down, "the expected share outside exceeds α" is tested with the
    Hoeffding-Bentkus p-value of the mean share, until one is not rejected. The risk decreases in λ,
    so the number of tests needs no correction.

    `curves` has the `miss_curve` of every calibration image, float64 [n, G]; α and δ are in (0, 1).
    """
    p = hoeffding_bentkus_p_value(np.mean(curves, axis=0), len(curves), alpha)
    failed = np.flatnonzero(p > delta)
    first = int(failed[-1]) + 1 if failed.size else 0
    return float(LAMBDAS[first]) if first < len(LAMBDAS) else math.inf


def interval(prediction: Pixels, widths: HalfWidths, scale: float) -> tuple[Pixels, Pixels]:
    """Return the images of the lower and the upper ends of T_λ, uint8 [H, W, 3].

    Real ends are rounded inwards. An infinite scale gives 0 and 255 everywhere.
    """
    down, up = (_reach(scale, width).astype(np.uint8) for width in widths)
    return prediction - np.minimum(prediction, down), prediction + np.minimum(255 - prediction, up)


def interval_score(truth: Pixels, lower: Pixels, upper: Pixels) -> tuple[float, float]:
    """Return the share of an image's values outside their interval, and the mean width."""
    inside = np.count_nonzero((lower <= truth) & (truth <= upper))
    return 1 - inside / truth.size, float(np.mean(upper - lower)) / (_LEVELS - 1)


def _reach(scale: NDArray[np.float64] | float, width: NDArray[np.integer]) -> NDArray[np.intp]:
    """How many whole levels λ·w reaches: floor(λ·w), at most 255."""
    return np.minimum(np.floor(scale * width.astype(np.float64)), _LEVELS - 1).astype(np.intp)
