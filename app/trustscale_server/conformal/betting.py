"""Tests of a mean by betting, which both guarantees with high probability are made of.

Let x_1 … x_n be independent values of one law with the expectation μ, and A a number. The wealth

    K_j = Π_{i ≤ j} (1 + λ_i (A − x_i)),    λ_i ≥ 0 a function of x_1 … x_{i−1} only,

begins with 1. If μ ≥ A and no factor is negative, which a largest bet ensures, it is a
supermartingale. So max_j K_j reaches 1/δ with probability at most δ (Ville's inequality), and
1/max_j K_j is a p-value for "μ ≥ A". The less the values vary, the smaller it is
(Waudby-Smith and Ramdas 2020, as in Bates et al. 2021).

The bets take the values in turn, so their order must be independent of them, which an order by
names (of cameras, of days) need not be.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Prior(NamedTuple):
    """What is assumed before any value is seen, and as how many values that counts."""

    mean: float
    variance: float
    size: int


def bets(
    x: NDArray[np.float64], delta: float, prior: Prior, *, largest: float
) -> NDArray[np.float64]:
    """Return λ_i = √(2 log(1/δ)/(n v_{i−1})), at most `largest`, float64 of the shape of x.

    With c, m and v_0 the size, mean and variance of the prior,

        m_i = (c m + Σ_{j ≤ i} x_j)/(c + i),    v_i = (c v_0 + Σ_{j ≤ i} (x_j − m_j)²)/(c + i).

    x: float64 [n, ...], n > 0.
    """
    n = len(x)
    seen = np.arange(1, n + 1).reshape(-1, *[1] * (x.ndim - 1)) + prior.size
    mean = (prior.mean * prior.size + np.cumsum(x, axis=0)) / seen
    squares = np.cumsum((x - mean) ** 2, axis=0)
    variance = (prior.variance * prior.size + squares) / seen
    before = np.concatenate([np.full((1, *x.shape[1:]), prior.variance), variance[:-1]])
    return np.asarray(np.minimum(largest, np.sqrt(2 * math.log(1 / delta) / (n * before))))


def largest_wealth(
    x: NDArray[np.float64], bet: NDArray[np.float64], mean: NDArray[np.float64] | float
) -> NDArray[np.float64]:
    """Return max_j K_j for the bets on x, float64 [n, ...], against A, one number or [...].

    An overflow is infinite, which rejects as it should; an underflow stays 0, which does not.
    """
    with np.errstate(over="ignore", under="ignore"):
        factors = bet * (mean - x)
        factors += 1
        np.multiply.accumulate(factors, axis=0, out=factors)
        return np.asarray(factors.max(axis=0))
