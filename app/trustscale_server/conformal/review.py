"""Which pictures may go out without a look: a decision per picture, and one for a whole batch.

A picture is *bad* if more than the share s of its pixels, all of them and not only the trusted
ones, are off by more than τ: D > τ. Its σ_high is the σ that 5 % of its pixels exceed, or none
where s = 0. With one picture of each of n calibration scenes its p-value is

    p = (1 + #{i ≤ n: picture i is bad and its σ_high is at most this one's}) / (n + 1)

which is R for the loss 1{bad and σ_high ≤ t} and B = 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trustscale_server.conformal.step_curve import ROUNDING

TOLERANCES: Final = (0.03, 0.05, 0.07, 0.1, 0.15, 0.2)
"""The τ to choose from."""

_DIGITS: Final = 10_000  # shares are rounded up to whole parts of this
_KEYS: Final = 1 << 15  # of σ: the upper 16 bits of a float32 without a sign


def off_shares(error: NDArray[np.float32]) -> tuple[float, ...]:
    """Return the share of pixels with D > τ for each of `TOLERANCES`, rounded up.

    error: D of a whole picture, float32 [H, W].
    """
    counts = (int(np.count_nonzero(error > tolerance)) for tolerance in TOLERANCES)
    return tuple(-(-count * _DIGITS // error.size) / _DIGITS for count in counts)


class SigmaCounts:
    """Counts the σ of a picture, in strips of any order.

    σ is rounded down to 7 binary digits after the first, in calibration as in answers.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(_KEYS, np.int64)

    def add(self, sigma: NDArray[np.float32]) -> None:
        """Count these, float32 of any shape, finite and ≥ 0."""
        keys = (sigma.reshape(-1) + np.float32(0)).view(np.int32)  # −0 becomes 0
        keys >>= 16
        self._counts += np.bincount(keys, minlength=_KEYS)

    def high(self) -> tuple[float, float]:
        """Return the σ that 5 % of the pixels exceed at most; 0 without pixels."""
        below = self._counts.cumsum()
        total = int(below[-1])
        least = (total - total // 20, total)
        keys = np.searchsorted(below, least).astype(np.int32)
        sigmas = (keys << 16).view(np.float32)
        return float(sigmas[0]), float(sigmas[1])


def high_sigma(sigma: NDArray[np.float32]) -> tuple[float, float]:
    """Return `SigmaCounts.high` of a whole σ, float32 [H, W]."""
    counts = SigmaCounts()
    counts.add(sigma)
    return counts.high()


def p_value(bad: NDArray[np.float64], n: int, high: float) -> float:
    """Return the p-value of a picture with this σ_high.

    bad: σ_high of the bad ones among the n calibrating pictures, in any order.

    **One picture** is accepted if p ≤ δ, for a δ that is fixed in advance. **P(bad and accepted) ≤
    δ** over the draw of the n scenes and of the picture, if all n + 1 pictures are exchangeable.
    *Proof.* Call a picture k of the n + 1 *low* if it is bad and at most δ (n + 1) bad ones among
    them, itself included, have a σ_high up to its own. Of the low ones that with the largest
    σ_high has all of them up to its own, so there are at most δ (n + 1). The new one is bad and
    accepted only if it is low, and is as likely as any other to be one of them. ∎ It is exact for
    any n, and accepts nothing below n = 1/δ − 1: 19 for δ = .05. Nothing follows for the accepted
    ones alone: where few are accepted, many of these may be bad. So a class whose pictures are
    nearly all bad accepts none (`passes`); accepting less keeps the promise.
    """
    return (1 + int(np.count_nonzero(bad <= high))) / (n + 1)


def passes(bad: NDArray[np.float64], known: NDArray[np.float64], high: float, delta: float) -> bool:
    """Return whether a picture with this σ_high is accepted by itself.

    There must be a σ_high from its own on up to which p ≤ δ and at least half of the pictures are
    good, the new one counted as bad. bad, known: σ_high of the bad ones, and of all of them.
    """
    ends = np.append(known[known >= high], high)
    worse = 1 + np.searchsorted(np.sort(bad), ends, side="right")
    among = 1 + np.searchsorted(np.sort(known), ends, side="right")
    is_rare = worse / (len(known) + 1) <= delta
    return bool((is_rare & (2 * worse <= among)).any())


def accepted_of_batch(p_values: Sequence[float], delta: float) -> list[bool]:
    """Decide which pictures of a batch are accepted, given p-values and δ, in their order.

    **A batch** of m pictures, each of another scene: with K the largest k for which k of their
    p-values are at most δ k/m, accept those with p ≤ δ K/m (Benjamini and Hochberg). **Of the
    accepted ones at most the share δ is bad, on average over batches** (0 of none), if all n + m
    pictures are exchangeable (Jin and Candès 2023). *Proof.* Let j be bad and accepted, and count
    j among the calibrating pictures instead of the 1: q_l = #{i ≤ n or i = j: bad, σ_high up to
    that of l}/(n + 1). Then q_l ≤ p_l, and they are equal unless σ_high of l is below that of j,
    so that p_l ≤ p_j and l is accepted anyway. So any k that fits the q from K on fits the p, and
    the q have the same K; with 0 in place of q_j, too. This K is symmetric in j and the n
    calibrating pictures, given the m − 1 others, so P(j bad and q_j ≤ δ K/m) ≤ δ K/m given K, as
    above. Hence the expected 1{j bad and accepted}/K is at most δ/m; add the m of them. ∎ A
    p-value may be raised to 1 by a rule that looks only at the picture: that only takes terms from
    the sum. Taking a of the K pictures out afterwards multiplies the share by at most K/(K − a).
    """
    values = np.asarray(p_values, np.float64)
    ranks = np.arange(1, len(values) + 1)
    fits = np.sort(values) * len(values) <= delta * ranks * ROUNDING
    most = int(ranks[fits].max(initial=0))
    return [bool(fit) for fit in values * len(values) <= delta * most * ROUNDING]
