"""Whether an unchanged source gave a number: a bet on ranks.

Evidence is the capital of bets that cannot win while a hypothesis holds. A non-negative
supermartingale that begins with 1 ever reaches 1/δ with probability at most δ (Ville's inequality),
however often somebody looks. So an alarm at 1/δ is false with probability δ.

While a number is exchangeable with earlier ones, its randomised rank among them is uniform. A
simple jumper bets with three accounts, on small ranks (e = −1), on nothing (0) and on large ones
(1), between which a little capital jumps (Vovk, "Testing randomness online", 2021; J = 0.01 and e
as there). Canaries are watched so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

JUMP: Final = 0.01
BETS: Final = (-1.0, 0.0, 1.0)

Accounts: TypeAlias = tuple[float, float, float]
"""Capital of the accounts that bet on small ranks, on nothing, and on large ones."""

START: Final[Accounts] = (1 / 3, 1 / 3, 1 / 3)


def rank(earlier: Sequence[NDArray[np.floating]], value: float, uniform: float) -> float:
    """Return the randomised rank of a value among m earlier ones: uniform if all are exchangeable.

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
    """Play one round of the simple jumper on three accounts of any capital.

    C_e ← ((1 − J) C_e + J/3 · Σ C) · (1 + e (p − ½)); their sum changes by a factor of ½ to 3/2.
    """
    total = sum(accounts)
    low, none, high = (
        ((1 - JUMP) * account + JUMP * total / len(BETS)) * (1 + stake * (p - 0.5))
        for account, stake in zip(accounts, BETS, strict=True)
    )
    return low, none, high
