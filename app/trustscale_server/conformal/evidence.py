"""Whether new pictures are like the calibration's, and whether the promise holds for them.

Evidence is the capital of bets that cannot win while a hypothesis holds.

A non-negative supermartingale that begins with 1 ever reaches 1/δ with probability at most δ
(Ville's inequality), however often somebody looks. So an alarm at 1/δ is false with probability δ.

**Do pictures look as in calibration?** Every answered request has a number z, the mean log σ of
its picture. While requests are exchangeable with the calibration pictures, one of each scene, the
randomised rank of z among the calibration's **and all earlier requests'** is uniform and
independent of the earlier ranks: a p-value of this picture. (Ranks among the calibration pictures
alone depend on each other.) Each class of uploads has ranks of its own; all of them feed one
capital. A simple jumper bets with three accounts, on small ranks (e = −1), on nothing (0) and on
large ones (1), between which a little capital jumps. After `RUN` requests the test begins anew,
which bounds its memory and keeps it quick (Vovk, "Testing randomness online", 2021; J = 0.01 and e
as there).

**Does the promise hold where the truth is known?** Label j gives the loss L_j on a mask of level
a_j. The hypothesis is E[L_j | the past] ≤ a_j for every j. With r_j = L_j/a_j each
Π (1 + c (r_j − 1)) with a fixed c in (0, ½] is a supermartingale under it, and so is the mean over
several c. α bounds the expectation over calibrations too; for a given one the mean loss may be
somewhat above α, so a_j = α_j + `tolerance`. **Labels must be a random sample.** If people label
what looks bad, the evidence says so.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

RUN: Final = 1000
"""Requests after which the test of pictures begins anew."""

FALSE_ALARM: Final = 0.01
"""Probability that a run of the test of pictures ever raises a false alarm."""

LABEL_DELTA: Final = 0.05
"""The same of labels, which cost a person's work each."""

JUMP: Final = 0.01
BETS: Final = (-1.0, 0.0, 1.0)

STAKES: Final = (0.02, 0.06, 0.14, 0.28, 0.5)
"""c of the bets that are averaged; up to ½, so that one loss-free label at most halves a stake."""

# One-sided 95 % quantile of the normal distribution.
_Z95: Final = 1.6448536269514722

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


@dataclass(frozen=True, slots=True, eq=False)
class PictureEvidence:
    """The evidence of one run that pictures differ from those of the calibration.

    seen: z of the run's requests so far by their class, float32, sorted.
    shares: of the three accounts in the capital; they sum to 1.
    log_capital, highest: ln S now, and its largest value in this run.
    shift: the sum of (z − mean)/sd, each by the calibration pictures of its class.
    """

    seen: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    shares: Accounts = START
    log_capital: float = 0.0
    highest: float = 0.0
    shift: float = 0.0

    @property
    def n(self) -> int:
        """The number of requests of this run."""
        return sum(map(len, self.seen.values()))

    @property
    def alarms(self) -> bool:
        """Whether S has reached 1/δ in this run."""
        return self.highest >= -math.log(FALSE_ALARM)

    def after(
        self, class_name: str, reference: NDArray[np.float32], z: float, uniform: float
    ) -> PictureEvidence:
        """Return the evidence after a request of mean log σ z.

        class_name: with its group. reference: z of the calibration pictures of this class,
        float32, sorted. uniform: a draw from U(0, 1).

        Raises:
            ValueError: z is not finite.
        """
        if not math.isfinite(z):
            raise ValueError("z must be a finite number")
        known = self.seen.get(class_name, np.empty(0, np.float32))
        shares = bet(self.shares, rank((reference, known), z, uniform))
        factor = sum(shares)
        log_capital = self.log_capital + math.log(factor)
        place = known.searchsorted(np.float32(z))
        return PictureEvidence(
            seen={**self.seen, class_name: np.insert(known, place, np.float32(z))},
            shares=(shares[0] / factor, shares[1] / factor, shares[2] / factor),
            log_capital=log_capital,
            highest=max(self.highest, log_capital),
            shift=self.shift + _standardised(z, reference),
        )


def _standardised(z: float, reference: NDArray[np.float32]) -> float:
    """(z − mean)/sd of the reference; 0 where that has no sd."""
    spread = float(np.std(reference, ddof=1, dtype=np.float64)) if len(reference) > 1 else 0.0
    return (z - float(np.mean(reference, dtype=np.float64))) / spread if spread > 0 else 0.0


@dataclass(frozen=True, slots=True)
class LabelEvidence:
    """The evidence of labels that masks lose more than α.

    n: number of labels; within: of those with L ≤ α.
    total_loss, total_alpha: ΣL and Σα.
    log_e: ln of the product for each of `STAKES`; highest: the largest ln E so far.
    """

    n: int = 0
    within: int = 0
    total_loss: float = 0.0
    total_alpha: float = 0.0
    log_e: tuple[float, ...] = (0.0,) * len(STAKES)
    highest: float = 0.0

    @property
    def log_e_value(self) -> float:
        """The log of E, the mean of the products."""
        return log_mean_exp(self.log_e)

    @property
    def mean_loss(self) -> float | None:
        """Mean of the losses; None without labels."""
        return self.total_loss / self.n if self.n else None

    @property
    def alarms(self) -> bool:
        """Whether E has ever reached 1/δ."""
        return self.highest >= -math.log(LABEL_DELTA)

    def after(self, loss: float, alpha: float, bound: float, *, slack: float) -> LabelEvidence:
        """Return the evidence after one more label: the loss L in [0, B] on a mask of α.

        `slack` is the tolerance added to α; 0 tests α itself.

        Raises:
            ValueError: a value is outside its range.
        """
        if not (0 <= loss <= bound * (1 + 1e-6) and 0 < bound < math.inf):
            raise ValueError(f"the loss must be in [0, B = {bound}], got {loss}")
        if not (0 <= alpha < math.inf and 0 <= slack < math.inf):
            raise ValueError("alpha and the tolerance must be finite and at least 0")
        level = min(alpha + slack, bound)
        # A mask of level 0 cannot lose, and one of level B may lose anything: nothing to bet on.
        bets = level > 0 and alpha < bound
        log_e = tuple(
            old + (math.log1p(c * (loss / level - 1)) if bets else 0.0)
            for old, c in zip(self.log_e, STAKES, strict=True)
        )
        return replace(
            self,
            n=self.n + 1,
            within=self.within + (loss <= alpha),
            total_loss=self.total_loss + loss,
            total_alpha=self.total_alpha + min(alpha, bound),
            log_e=log_e,
            highest=max(self.highest, log_mean_exp(log_e)),
        )


def tolerance(losses: Sequence[float]) -> float:
    """Return how far the mean loss given one calibration may exceed α by its sampling error.

    1.645 standard errors of the mean of L̄_i(t_α−), the losses of the calibration scenes at the
    served threshold: for about 95 % of calibrations the mean loss of new images is below α plus
    this.
    """
    n = len(losses)
    return _Z95 * statistics.stdev(losses) / math.sqrt(n) if n > 1 else 0.0


def log_mean_exp(values: Sequence[float]) -> float:
    """Return the logarithm of the mean of exponentials, without overflow."""
    top = max(values)
    return top + math.log(math.fsum(math.exp(value - top) for value in values) / len(values))
