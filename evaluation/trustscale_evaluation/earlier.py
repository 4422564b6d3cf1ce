"""The paper's baselines on the same samples (its §4 and Figure 6).

**An interval per pixel and channel** (Angelopoulos et al. 2022b, "Image-to-Image Regression with
Distribution-Free Uncertainty Quantification and Applications in Imaging"): nested sets T_λ =
[Ŷ − λ·l, Ŷ + λ·u] with heuristic half-widths l and u; the loss of an image is the share of its
values outside; with probability at least 1 − δ over the calibration images, the expected share
outside is at most α. Here the quantiles of the samples give l = Ŷ − q_low, u = q_high − Ŷ. Values
are 8-bit levels and quantiles are order statistics, so the joint histogram of (half-width,
distance) gives the share outside exactly at every λ of the grid `LAMBDAS`.

**A continuous mask** (Kutiel et al. 2023, "Conformal Prediction Masks"; the paper's Appendix B): a
confidence c in [0, 1] per pixel is scaled to the mask M^(λ) = min{λ / (1 − c + ε), 1}; each
calibration image gives the largest λ at which its weighted error (1/N) Σ M·|Ŷ − Y| is at most α; a
quantile of these λ is served. The claim is Eq. 3: with probability at least 1 − δ over the
calibration images, the *expected* weighted error of a new image is at most α. **The claim is
false**: the condition is checked image by image, the expectation never enters, and the quantile has
no correction for a finite sample (the counterexample runs in tests/evaluation/test_earlier.py). The
masks are for comparison only. In the paper a network predicts c; here it comes from the indecision.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from trustscale_evaluation.measure import EvaluatedImage
from trustscale_evaluation.plots import Record
from trustscale_evaluation.reduce import Method
from trustscale_server.conformal.fidelity import FidelitySettings
from trustscale_server.pixels.lab import Pixels
from trustscale_server.sampling.spec import MeasurementSpec

LAMBDAS: NDArray[np.float64] = np.concatenate([[0.0], np.geomspace(1 / 255, 255, 1023)])
"""The scales; at the last one even a half-width of 1 reaches every level."""
LAMBDAS.setflags(write=False)

_LOW, _HIGH = 0.05, 0.95
"""Quantiles of the samples, as order statistics (rounded outwards)."""

_FLOOR = 1
"""Least half-width in levels: with 0, where all samples agree, no scale would reach the truth."""

_LEVELS = 256

_Widths = tuple[Pixels, Pixels]


def half_widths(samples: Pixels, prediction: Pixels) -> _Widths:
    """Return the half-widths l and u, uint8 [H, W, 3] each, at least `_FLOOR`.

    Of samples, uint8 [M, H, W, 3]; a bound on the wrong side of Ŷ counts as Ŷ itself.
    """
    last = len(samples) - 1
    low, high = math.floor(_LOW * last), math.ceil(_HIGH * last)
    if (low, high) == (0, last):  # so it is for few samples
        lowest, highest = samples.min(axis=0), samples.max(axis=0)
    else:
        lowest, highest = np.empty_like(prediction), np.empty_like(prediction)
        for row in range(len(lowest)):  # a row at a time: no copy of all samples
            ordered = np.sort(samples[:, row], axis=0)
            lowest[row], highest[row] = ordered[low], ordered[high]
    below = prediction - np.minimum(lowest, prediction)
    above = np.maximum(highest, prediction) - prediction
    least = np.uint8(_FLOOR)
    return np.maximum(below, least, out=below), np.maximum(above, least, out=above)


def miss_curve(truth: Pixels, prediction: Pixels, widths: _Widths) -> NDArray[np.float64]:
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


def interval(prediction: Pixels, widths: _Widths, scale: float) -> tuple[Pixels, Pixels]:
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


_EPSILON = 1e-3
"""ε keeps the quotient finite where the confidence is 1."""


def confidence(indecision: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the confidence c = 1 − min{1, √σ}, float64 of the shape of σ, in [0, 1].

    The root of σ, a variance in normalised Lab, has the unit of the error.
    """
    return 1 - np.minimum(1, np.sqrt(indecision, dtype=np.float64))


def weight_mask(confidences: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    """M^(λ) = min{λ / (1 − c + ε), 1}, float64 of the shape of c, in [0, 1]."""
    return np.minimum(scale / (1 - confidences + _EPSILON), 1)


def weighted_error(weights: NDArray[np.float64], error: NDArray[np.floating]) -> float:
    """Return (1/N) Σ M·|Ŷ − Y|, as in Eq. 3."""
    return float(np.mean(weights * error, dtype=np.float64))


def image_scale(
    confidences: NDArray[np.float64],
    error: NDArray[np.floating],
    alphas: Sequence[float] | NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return λ_i of one image for every α ≥ 0, float64.

    λ_i = max{λ in [0, 1] : (1/N) Σ M^(λ)·|Ŷ − Y| ≤ α}.

    With u = 1 − c + ε the weighted error is, between neighbouring values of u, the rising line
    (Σ_{u ≤ λ} e + λ·Σ_{u > λ} e/u) / N; so sorting finds λ_i exactly. c is [H, W] in [0, 1]; the
    error |Ŷ − Y|, [H, W], is finite.
    """
    doubt = 1 - np.asarray(confidences, np.float64).reshape(-1) + _EPSILON
    order = np.argsort(doubt)
    doubt, errors = doubt[order], np.asarray(error, np.float64).reshape(-1)[order]
    # Before the k-th value: what is already whole, and the slope of what still grows.
    whole = np.concatenate([[0.0], np.cumsum(errors)])
    slope = np.concatenate([np.cumsum((errors / doubt)[::-1])[::-1], [0.0]])
    at_value = whole[:-1] + doubt * slope[:-1]  # N times the weighted error at λ = u_k
    budgets = np.asarray(alphas, np.float64) * errors.size
    place = np.searchsorted(at_value, budgets, side="right")
    rising = slope[place] > 0
    scales = np.ones(len(budgets))
    scales[rising] = (budgets - whole[place])[rising] / slope[place][rising]
    return np.clip(scales, 0, 1)


def mask_scale(scales: Sequence[float] | NDArray[np.float64], *, delta: float) -> float:
    """Return the served λ: the δ-quantile of the λ_i of the calibration images.

    So a share 1 − δ of them keeps its weighted error at α, the kind reading. Step 2 of Appendix B
    has Quantile_{1−δ}, at which only a share δ need do so. Neither makes Eq. 3 true.
    """
    return float(np.quantile(scales, delta, method="lower"))


_POINTWISE = FidelitySettings(metric="pointwise")

_MISS_ALPHA = 0.1
"""Share of values that may lie outside their interval (Angelopoulos et al.)."""

_WEIGHTED_ALPHAS = (0.005, 0.01, 0.02, 0.05)
"""Levels of the weighted mean error (Kutiel et al.), which is far smaller than a largest error."""

SHOWN_ALPHA = 0.01

_COLUMNS = (
    *("method", "keeps_small", "guarantee"),
    *("alpha", "scale", "realised", "mean_width_or_weight"),
)


@dataclass(slots=True)
class Earlier(Method):
    """Both methods, calibrated on the calibration images.

    scale: λ̂ of the intervals. weighted: λ for each of `_WEIGHTED_ALPHAS`, [k].
    scores: [m, 2 + 2k]; of each test image the share of values outside and the mean width in [0,
    1], then for each of `_WEIGHTED_ALPHAS` the weighted error and the mean weight.
    """

    pipeline: MeasurementSpec
    delta: float
    scale: float = field(init=False)
    weighted: NDArray[np.float64] = field(init=False)
    scores: NDArray[np.float64] = field(init=False)

    def seen(self, image: EvaluatedImage) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what a calibration image loses at every scale of the intervals, and its own λ."""
        prediction = image.prediction(self.pipeline)
        return (
            miss_curve(image.pair.y, prediction, self._widths(image)),
            image_scale(self._confidence(image), self._error(image), _WEIGHTED_ALPHAS),
        )

    def calibrate(self, images: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> None:
        """Calibrate both methods; neither knows scenes."""
        curves, scales = (np.array(values) for values in zip(*images, strict=True))
        self.scale = interval_scale(curves, alpha=_MISS_ALPHA, delta=self.delta)
        self.weighted = np.array([mask_scale(column, delta=self.delta) for column in scales.T])

    def tested(self, image: EvaluatedImage) -> list[float]:
        """Return the scores of a test image."""
        row = [*interval_score(image.pair.y, *self.interval(image))]
        for scale in self.weighted:
            mask = weight_mask(self._confidence(image), float(scale))
            row += [weighted_error(mask, self._error(image)), float(mask.mean())]
        return row

    def gather(self, images: Sequence[list[float]]) -> None:
        """Store the scores."""
        self.scores = np.array(images)

    def interval(self, image: EvaluatedImage) -> tuple[Pixels, Pixels]:
        """Return the lower and the upper image of one prediction, uint8 [H, W, 3]."""
        return interval(image.prediction(self.pipeline), self._widths(image), self.scale)

    def weight(self, image: EvaluatedImage) -> NDArray[np.float64]:
        """Return the continuous mask of one image at `SHOWN_ALPHA`, float64 [H, W] in [0, 1]."""
        scale = float(self.weighted[_WEIGHTED_ALPHAS.index(SHOWN_ALPHA)])
        return weight_mask(self._confidence(image), scale)

    def _widths(self, image: EvaluatedImage) -> _Widths:
        return half_widths(image.samples.images, image.prediction(self.pipeline))

    def _confidence(self, image: EvaluatedImage) -> NDArray[np.float64]:
        return confidence(image.sigma(self.pipeline))

    def _error(self, image: EvaluatedImage) -> NDArray[np.float32]:
        return image.error(self.pipeline, _POINTWISE)

    def records(self, unmasked: float) -> list[Record]:
        """Return what each method promises, whether that can be relied on, and the result.

        unmasked: mean of the largest D of the whole image.
        """
        outside, width, *weighted = (float(column.mean()) for column in self.scores.T)
        rows: list[tuple[object, ...]] = [
            ("none", "nothing", "none", None, None, unmasked, 1.0),
            (
                "intervals (Angelopoulos et al. 2022b)",
                "share of values outside their interval",
                "proven, with high probability",
                *(_MISS_ALPHA, self.scale, outside, width),
            ),
        ]
        rows += [
            (
                "continuous mask (Kutiel et al. 2023)",
                "weighted mean error",
                "claimed, disproven (paper, Appendix B)",
                *(alpha, float(self.weighted[k]), *weighted[2 * k : 2 * k + 2]),
            )
            for k, alpha in enumerate(_WEIGHTED_ALPHAS)
        ]
        return [dict(zip(_COLUMNS, row, strict=True)) for row in rows]
