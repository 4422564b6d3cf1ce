"""The paper's definitions, computed the slow and obvious way: the oracle of the core's tests."""

import math

import numpy as np
from skimage.color import rgb2lab


def lab64(rgb):
    """Normalised Lab, float64 [3, H, W], by scikit-image."""
    lab = rgb2lab(rgb)
    return np.stack([lab[..., 0] / 100, lab[..., 1] / 254 + 0.5, lab[..., 2] / 254 + 0.5])


def loss(sigma, error, t):
    """L(t) = max{D(p) : σ(p) ≤ t}, 0 on the empty set."""
    inside = sigma <= t
    return float(error[inside].max()) if inside.any() else 0.0


def risk(maps, bound, t):
    """R(t), Eq. 1, with a correctly rounded sum of losses that count in whole units of 2^-40."""
    losses = (math.ceil(loss(sigma, error, t) * 2**40) / 2**40 for sigma, error in maps)
    return (math.fsum(losses) + bound) / (len(maps) + 1)


def threshold(maps, bound, alpha):
    """sup{t : R(t) ≤ α} by walking over every value of σ in every image (Algorithm 2)."""
    if bound / (len(maps) + 1) > alpha:
        return -math.inf
    for t in sorted({float(t) for sigma, _ in maps for t in sigma.ravel()}):
        if risk(maps, bound, t) > alpha:
            return t
    return math.inf
