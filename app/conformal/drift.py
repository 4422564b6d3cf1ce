"""Do the inputs still look like the calibration images? Evidence without labels.

Every answered request has a number z, the mean log σ of its image. While requests are exchangeable
with the calibration images, one of each scene, the randomised rank of each z among the
calibration's z **and those of all earlier requests** is uniform and independent of the earlier
ranks. (Ranks among the calibration images alone are dependent: `benchmarks/drift.py`.) A simple
jumper bets against the ranks with three accounts, on small ranks (e = −1), on nothing (0) and on
large ones (1), between which a little capital jumps.

- S, the total capital, is a *test martingale*: P(S ever reaches 1/δ) ≤ δ (Ville's inequality). It
  is the evidence since the beginning; after a long quiet time it reacts late.
- V_t = (V_{t−1} + 1) · S_t/S_{t−1}, the *Shiryaev–Roberts* statistic, is the evidence since any
  time, and always reacts quickly. V_t − t is a martingale, so an alarm at c is false at most once
  in c requests on average.

**Bounded memory.** After `EPOCH` requests a new epoch begins with no earlier z, S = 1 and V = 0.
Both promises hold in every epoch, and over epochs: of those without a change at most the share δ
raise S to 1/δ, and V gives at most one false alarm in c requests. Each finds a lasting difference
again.

Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2nd ed., ch. 8; Vovk, "Testing
randomness online", 2021 (jumper, Shiryaev–Roberts); J = 0.01 and e as there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

EPOCH = 1000
"""Requests of an epoch."""

DELTA = 0.01
"""Probability that S ever raises a false alarm in an epoch."""

CEILING = 100_000.0
"""c: V gives at most one false alarm in so many requests on average."""

JUMP = 0.01
BETS = (-1.0, 0.0, 1.0)

Accounts: TypeAlias = tuple[float, float, float]
"""Capital of those that bet on small ranks, on nothing, and on large ones."""

START: Accounts = (1 / 3, 1 / 3, 1 / 3)


@dataclass(frozen=True, slots=True, eq=False)
class Drift:
    """The state of one epoch.

    seen: z of the epoch's requests so far, float32, sorted.
    shares: of the three accounts in the capital; they sum to 1.
    log_s, log_v: ln S and ln V; V begins at 0.
    highest_s, highest_v: the largest of both in this epoch.
    """

    seen: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    shares: Accounts = START
    log_s: float = 0.0
    log_v: float = -math.inf
    highest_s: float = 0.0
    highest_v: float = -math.inf

    @property
    def is_full(self) -> bool:
        """Whether the next request belongs to a new epoch."""
        return len(self.seen) >= EPOCH

    def alarms(self) -> bool:
        """Whether S has reached 1/δ in this epoch, or V c."""
        return self.highest_s >= -math.log(DELTA) or self.highest_v >= math.log(CEILING)


def rank(earlier: Sequence[NDArray[np.floating]], value: float, uniform: float) -> float:
    """The randomised rank of a value among m earlier ones: uniform if all are exchangeable.

    p = (#{greater} + U · (#{equal} + 1)) / (m + 1). The earlier ones are in sorted arrays of one
    dtype, in which the value is compared; `uniform` is U, a draw from U(0, 1).
    """
    greater = equal = 0
    for values in earlier:
        new = values.dtype.type(value)
        below, up_to = (int(values.searchsorted(new, side)) for side in ("left", "right"))
        greater += len(values) - up_to
        equal += up_to - below
    return (greater + uniform * (equal + 1)) / (sum(map(len, earlier)) + 1)


def bet(accounts: Accounts, p: float) -> Accounts:
    """One round of the simple jumper on three accounts of any capital.

    C_e ← ((1 − J) C_e + J/3 · Σ C) · (1 + e (p − ½)); their sum changes by a factor of ½ to 3/2.
    """
    total = sum(accounts)
    low, none, high = (
        ((1 - JUMP) * account + JUMP * total / len(BETS)) * (1 + stake * (p - 0.5))
        for account, stake in zip(accounts, BETS, strict=True)
    )
    return low, none, high


def observe(state: Drift, reference: NDArray[np.float32], z: float, uniform: float) -> Drift:
    """The state after a request of mean log σ z; a full epoch is followed by a new one.

    `reference`: z of the calibration images, float32, sorted; `uniform`: a draw from U(0, 1).

    Raises:
        ValueError: z is not finite.
    """
    if not math.isfinite(z):
        raise ValueError("z must be a finite number")
    if state.is_full:
        state = Drift()
    shares = bet(state.shares, rank((reference, state.seen), z, uniform))
    factor = sum(shares)
    log_s = state.log_s + math.log(factor)
    log_v = float(np.logaddexp(state.log_v, 0.0)) + math.log(factor)
    return Drift(
        seen=np.insert(state.seen, state.seen.searchsorted(np.float32(z)), np.float32(z)),
        shares=(shares[0] / factor, shares[1] / factor, shares[2] / factor),
        log_s=log_s,
        log_v=log_v,
        highest_s=max(state.highest_s, log_s),
        highest_v=max(state.highest_v, log_v),
    )


def reference_of(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """The calibration's z for `observe`: float32, sorted.

    Raises:
        ValueError: a value is not finite.
    """
    if not np.isfinite(values).all():
        raise ValueError("z contains values that are not finite")
    return np.sort(values.astype(np.float32))
