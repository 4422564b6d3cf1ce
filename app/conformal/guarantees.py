"""What a calibration promises besides its mask: bounds that follow from n, B and α alone."""

from __future__ import annotations

import math
from fractions import Fraction


def minimal_n(alpha: float, bound: float) -> int:
    """The smallest n with B/(n + 1) ≤ α: with fewer scenes no pixel can be trusted.

    Raises:
        ValueError: alpha or bound is not a positive number.
    """
    if not (0 < alpha < math.inf and 0 < bound < math.inf):
        raise ValueError("alpha and bound must be positive numbers")
    n = max(0, math.ceil(Fraction(bound) / Fraction(alpha)) - 1)
    # The risk curve divides in floating point, which may decide a tie the other way.
    if 0 < n < 1 << 52 and bound / n <= alpha:
        return n - 1
    return n


def leakage_bound(alpha: float, n: int, n_leaked: int, bound: float) -> float:
    """Proposition 3.2: the bound that survives when `n_leaked` of n scenes were trained on.

    A model may be better on images it was trained on, at the worst perfect. Without the leaked
    terms the threshold is one of n_new = n − n_leaked scenes at level α(n + 1)/(n_new + 1). Never
    more than B, which holds without any calibration.

    Raises:
        ValueError: n_leaked outside [0, n].
    """
    if not 0 <= n_leaked <= n:
        raise ValueError(f"n_leaked must be between 0 and n = {n}, got {n_leaked}")
    return min(bound, alpha * (n + 1) / (n - n_leaked + 1))


def lab_psnr_lower_bound_db(alpha: float) -> float | None:
    """A lower bound in dB on the expected PSNR inside the mask, for the `pointwise` metric only.

    The paper's Proposition 3.1 with its last step mended: the peak is fixed at 1, the largest value
    of a normalised Lab channel. The root mean square over pixels and channels is at most the worst
    ‖Y − Ŷ‖₁ divided by √3, so, by Jensen's inequality, E[PSNR] ≥ −20 log10(α) + 10 log10(3). It is
    a statement about normalised Lab, not RGB, with an empty mask counted as error 0. None for
    α = 0, where the error is almost surely zero and the PSNR infinite.
    """
    if alpha <= 0:
        return None
    return -20 * math.log10(alpha) + 10 * math.log10(3)
