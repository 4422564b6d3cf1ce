"""P-values and upper confidence bounds for the expectation of values in [0, 1].

For n independent values that are 0 or 1, k of them 1, the bound of *Clopper and Pearson* is exact:
the A with P(Bin(n, A) ≤ k) = δ. For n independent values x_i of one law with expectation μ:

- *Hoeffding-Bentkus* (Bates et al. 2021, Angelopoulos et al. 2021) uses the mean x̄ only:
  min(exp(−n h₁(min(x̄, A), A)), e · P(Bin(n, A) ≤ ⌈n x̄⌉)), with h₁(x, y) = x log(x/y) + (1 − x)
  log((1 − x)/(1 − y)). The theorem needs the ceiling.
- *WSR betting* (Waudby-Smith and Ramdas 2020, as in Bates et al.): the wealth K_j = Π_{i ≤ j}
  (1 − λ_i (x_i − A)), where λ_i ∈ [0, 1] depends on x_1 … x_{i−1} only, is a supermartingale if
  μ ≥ A, so 1/max_j K_j is a p-value (Ville). It gains where the values vary little, and needs an
  order that no value has influenced.

Both p-values fall when A grows; U = inf{A : p(A) ≤ δ} bounds μ with probability ≥ 1 − δ.
"""

from __future__ import annotations

import math

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

_BISECTIONS = 20  # of the WSR bound: it is at most 2^-20 too large

# Of larger means the bound is 1: its root is too close to the mean.
_SHORT_OF_1 = 1 - 1e-9

# Bounds in floating point are enlarged by more than their error.
SAFE = 1 + 1e-10


def clopper_pearson_bound(count: ArrayLike, n: int, delta: float) -> NDArray[np.float64]:
    """U with P(Bin(n, U) ≤ k) = δ, rounded up, for `count` k of n values that are 1, any shape."""
    k = np.asarray(count, np.float64)
    inside = np.minimum(k, n - 1)  # P(Bin(n, A) ≤ k) = 1 − I_A(k + 1, n − k)
    roots = scipy.special.betainccinv(inside + 1, n - inside, delta)
    return np.asarray(np.where(k < n, np.minimum(roots * SAFE, 1.0), 1.0))


def hoeffding_bentkus_p_value(mean: ArrayLike, n: int, alpha: ArrayLike) -> NDArray[np.float64]:
    """P-value of "E[x] exceeds A", for the mean x̄ of n ≥ 1 independent x in [0, 1].

    `alpha` is A in (0, 1), broadcast against the mean. float64; it may exceed 1.
    """
    x, share = np.asarray(mean, np.float64), np.asarray(alpha, np.float64)
    hoeffding = np.exp(-n * _divergence(np.minimum(x, share), share))
    bentkus = math.e * scipy.special.bdtr(np.ceil(n * x), n, share)
    return np.asarray(np.minimum(hoeffding, bentkus))


def hoeffding_bentkus_bound(
    mean: NDArray[np.float64], n: int, delta: float, *, ceiling: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """U = inf{A : p(A) ≤ δ} of the Hoeffding-Bentkus p-value, rounded up: float64 [k] in (0, 1].

    Args:
        mean: x̄, float64 [k] in [0, 1], of n ≥ 1 values; U does not fall in it.
        n: number of values.
        delta: δ in (0, 1).
        ceiling: ⌈n x̄⌉ [k], where it is known exactly.
    """
    if ceiling is None:
        ceiling = np.ceil(n * mean).astype(np.int64)
    # P(Bin(n, A) ≤ k) = 1 − I_A(k + 1, n − k): the inverse of the incomplete beta function.
    k, place = np.unique(np.minimum(ceiling, n), return_inverse=True)
    roots = np.ones(len(k))
    inside = k < n
    roots[inside] = scipy.special.betainccinv(k[inside] + 1, n - k[inside], delta / math.e)
    bentkus = roots[place]
    least = np.minimum(_hoeffding_bound(mean, n, delta), bentkus)
    return np.asarray(np.minimum(least * SAFE, 1.0))


def wsr_bound(x: NDArray[np.float64], delta: float) -> NDArray[np.float64]:
    """U = inf{A : p(A) ≤ δ} of the WSR p-value, at most 2^-20 too large: float64 [...] in (0, 1].

    x: float64 [n, ...] in [0, 1], in an order that is independent of the values.
    """
    bets = _bets(x, delta)
    low = np.zeros(x.shape[1:])
    high = np.ones(x.shape[1:])  # no expectation exceeds 1
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        passes = _wealth(x, bets, middle) * delta >= 1  # grows with A
        high = np.where(passes, middle, high)
        low = np.where(passes, low, middle)
    return high


def _divergence(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """h₁(x, y), 0 log 0 being 0."""
    return np.asarray(scipy.special.rel_entr(x, y) + scipy.special.rel_entr(1 - x, 1 - y))


def _hoeffding_bound(mean: NDArray[np.float64], n: int, delta: float) -> NDArray[np.float64]:
    """The A > x̄ with n h₁(x̄, A) = log(1/δ), by Newton's method from above.

    h₁ is convex and rises in A > x̄, so the iterates fall towards the root and never pass it.
    """
    target = math.log(1 / delta) / n
    inside = mean < _SHORT_OF_1
    x = mean[inside]
    # Two values above the root: h₁ ≥ 2(A − x)² (Pinsker), and h₁ without its x log(1/A) ≥ 0.
    pinsker = x + math.sqrt(target / 2)
    rest = -np.expm1((np.log1p(-x) * (1 - x) - target + scipy.special.xlogy(x, x)) / (1 - x))
    share = np.minimum(np.where(pinsker < 1, pinsker, 1.0), rest)
    share = np.minimum(share, np.nextafter(1.0, 0.0))
    for _ in range(60):
        excess = _divergence(x, share) - target
        step = np.maximum(excess, 0) * share * (1 - share) / (share - x)
        share = share - step
        if not (step > 1e-15 * share).any():
            break
    bound = np.ones(mean.shape)
    bound[inside] = share
    return bound


def _bets(x: NDArray[np.float64], delta: float) -> NDArray[np.float64]:
    """λ_i = min(1, √(2 log(1/δ)/(n v_{i−1}))), v the running variance with a prior of one value."""
    n = len(x)
    count = np.arange(1, n + 1, dtype=np.float64).reshape(-1, *[1] * (x.ndim - 1))
    mean = (0.5 + np.cumsum(x, axis=0)) / (count + 1)
    variance = (0.25 + np.cumsum((x - mean) ** 2, axis=0)) / (count + 1)
    before = np.concatenate([np.full((1, *x.shape[1:]), 0.25), variance[:-1]])
    return np.asarray(np.minimum(1.0, np.sqrt(2 * math.log(1 / delta) / (n * before))))


def _wealth(
    x: NDArray[np.float64], bets: NDArray[np.float64], share: NDArray[np.float64] | np.float64
) -> NDArray[np.float64]:
    """max_j K_j; A has the shape of x without its first axis.

    An overflow is infinite, which rejects as it should; an underflow stays 0, which does not.
    """
    with np.errstate(over="ignore", under="ignore"):
        factors = bets * (share - x)
        factors += 1
        np.multiply.accumulate(factors, axis=0, out=factors)
        return np.asarray(factors.max(axis=0))
