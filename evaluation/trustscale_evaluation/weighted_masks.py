"""A continuous mask, a baseline of the paper (its Appendix B and Figure 6).

Kutiel et al. 2023, "Conformal Prediction Masks": a confidence c in [0, 1] per pixel is scaled to
the mask M^(λ) = min{λ / (1 − c + ε), 1}; each calibration image gives the largest λ at which its
weighted error (1/N) Σ M·|Ŷ − Y| is at most α; a quantile of these λ is served. The claim is Eq. 3:
with probability at least 1 − δ over the calibration images, the *expected* weighted error of a new
image is at most α. **The claim is false**: the condition is checked image by image, the expectation
never enters, and the quantile has no correction for a finite sample (the counterexample runs in
tests/evaluation/test_earlier.py). The masks are for comparison only. In the paper a network
predicts c; here it comes from the indecision.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

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
    # Before the k-th value: the sum of the errors with weight 1, and the slope of the others.
    full = np.concatenate([[0.0], np.cumsum(errors)])
    slope = np.concatenate([np.cumsum((errors / doubt)[::-1])[::-1], [0.0]])
    at_value = full[:-1] + doubt * slope[:-1]  # N times the weighted error at λ = u_k
    budgets = np.asarray(alphas, np.float64) * errors.size
    place = np.searchsorted(at_value, budgets, side="right")
    rising = slope[place] > 0
    scales = np.ones(len(budgets))
    scales[rising] = (budgets - full[place])[rising] / slope[place][rising]
    return np.clip(scales, 0, 1)


def mask_scale(scales: Sequence[float] | NDArray[np.float64], *, delta: float) -> float:
    """Return the served λ: the δ-quantile of the λ_i of the calibration images.

    So a share 1 − δ of them keeps its weighted error at α, the kind reading. Step 2 of Appendix B
    has Quantile_{1−δ}, at which only a share δ need do so. Neither makes Eq. 3 true.
    """
    return float(np.quantile(scales, delta, method="lower"))
