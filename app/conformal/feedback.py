"""Does the promise hold in use? Evidence from labels: realised losses on masks that were served.

Label j gives the loss L_j on the mask of level a_j. The hypothesis is E[L_j | the past] ≤ a_j for
every j.

- **E-value.** With r_j = L_j/a_j, each E_c = Π (1 + c (r_j − 1)) with a fixed c in (0, ½] is a
  non-negative supermartingale under the hypothesis, and so is the mean E over several c, which
  needs no tuning: with probability at least 1 − δ it never reaches 1/δ.
- **Confidence sequence** for the mean loss, valid at every number of labels at once: the
  predictable plug-in empirical Bernstein sequence of Waudby-Smith and Ramdas ("Estimating means of
  bounded random variables by betting", 2024, Theorem 2). Where the expectation of the losses varies
  it covers their average, with the weights λ of the formula.

**Slack.** α bounds the expectation over the draw of the calibration set too. Given one calibration,
the mean loss of the requests may be somewhat above α, as it is for a good third of calibrations. So
a_j = α_j + `tolerance`.

**Labels must be a random audit sample.** If people label what looks bad, both numbers say so.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

DELTA = 0.05
"""Probability that the e-value ever raises a false alarm, or that the sequence ever misses."""

STAKES = (0.02, 0.06, 0.14, 0.28, 0.5)
"""c of the bets that are averaged; up to ½, so that one loss-free label at most halves a stake."""

# Largest λ. Losses vary little in units of B: at 60 labels the interval is a third narrower than
# with ½, the authors' other value.
_MOST_WEIGHT = 0.75

# One-sided 95 % quantile of the normal distribution.
_Z95 = 1.6448536269514722


class Interval(NamedTuple):
    """A confidence interval for the mean loss and its centre."""

    lower: float
    centre: float
    upper: float


@dataclass(frozen=True, slots=True)
class Feedback:
    """The evidence from the labels.

    n: number of labels; within: of those with L ≤ α.
    total_loss: ΣL.
    log_e: ln E_c for each of `STAKES`; highest: the largest ln E so far.
    weight, weighted_loss, weighted_alpha: Σλ, Σλx, Σλa with x = L/B and a = α/B.
    penalty: Σ (x − μ̂)² ψ(λ).
    total, squares: Σx and Σ(x − μ̂)², which give the next λ.
    """

    n: int = 0
    within: int = 0
    total_loss: float = 0.0
    log_e: tuple[float, ...] = (0.0,) * len(STAKES)
    highest: float = 0.0
    weight: float = 0.0
    weighted_loss: float = 0.0
    weighted_alpha: float = 0.0
    penalty: float = 0.0
    total: float = 0.0
    squares: float = 0.0

    @property
    def log_e_value(self) -> float:
        """The logarithm of E."""
        return log_mean_exp(self.log_e)

    @property
    def mean_loss(self) -> float:
        """Mean of the losses; NaN without labels."""
        return self.total_loss / self.n if self.n else math.nan

    def alarms(self) -> bool:
        """Whether E has ever reached 1/δ."""
        return self.highest >= -math.log(DELTA)


def observe(
    state: Feedback, loss: float, alpha: float, bound: float, *, slack: float = 0.0
) -> Feedback:
    """The state after one more label: the loss L in [0, B] on a mask of α.

    `slack` is the tolerance added to α; 0 tests α itself.

    Raises:
        ValueError: a value is outside its range.
    """
    if not (0 <= loss <= bound * (1 + 1e-6) and 0 < bound < math.inf):
        raise ValueError(f"the loss must be in [0, B = {bound}], got {loss}")
    if not (0 <= alpha < math.inf and 0 <= slack < math.inf):
        raise ValueError("alpha and the tolerance must be finite and at least 0")
    x, a = min(loss / bound, 1.0), min(alpha / bound, 1.0)
    # The guesses for the first label count as one observation; any predictable guess is valid.
    mean = (a + state.total) / (state.n + 1)
    variance = (0.25 + state.squares) / (state.n + 1)
    t = state.n + 1
    best = math.sqrt(2 * math.log(2 / DELTA) / (variance * t * math.log(1 + t)))
    weight = min(best, _MOST_WEIGHT)
    level = min(alpha + slack, bound)
    # A mask of level 0 cannot lose, one of level B may lose anything: there is nothing to bet on.
    bets = level > 0 and alpha < bound
    log_e = tuple(
        old + (math.log1p(c * (loss / level - 1)) if bets else 0.0)
        for old, c in zip(state.log_e, STAKES, strict=True)
    )
    mean_after = (a + state.total + x) / (state.n + 2)
    return replace(
        state,
        n=t,
        within=state.within + (loss <= alpha),
        total_loss=state.total_loss + loss,
        log_e=log_e,
        highest=max(state.highest, log_mean_exp(log_e)),
        weight=state.weight + weight,
        weighted_loss=state.weighted_loss + weight * x,
        weighted_alpha=state.weighted_alpha + weight * a,
        penalty=state.penalty + (x - mean) ** 2 * (-math.log1p(-weight) - weight),
        total=state.total + x,
        squares=state.squares + (x - mean_after) ** 2,
    )


def interval(state: Feedback, bound: float) -> Interval:
    """The confidence sequence at the present number of labels, for the mean loss in [0, B].

    B times centre ± radius: Σλx/Σλ ± (ln(2/δ) + Σ(x − μ̂)²(−ln(1 − λ) − λ))/Σλ. Without labels:
    [0, B].
    """
    if not state.n:
        return Interval(0.0, math.nan, bound)
    centre = state.weighted_loss / state.weight
    radius = (math.log(2 / DELTA) + state.penalty) / state.weight
    return Interval(
        bound * max(0.0, centre - radius), bound * centre, bound * min(1.0, centre + radius)
    )


def mean_alpha(state: Feedback, bound: float) -> float:
    """The average α of the labelled masks, weighted as `interval` weighs their losses."""
    return bound * state.weighted_alpha / state.weight if state.n else math.nan


def tolerance(losses: Sequence[float]) -> float:
    """How far the mean loss given one calibration may exceed α by its sampling error.

    1.645 standard errors of the mean of L̄_i(t_α−), the losses of the calibration scenes at the
    served threshold: for about 95 % of calibrations the mean loss of new images is below α plus
    this.
    """
    n = len(losses)
    return _Z95 * statistics.stdev(losses) / math.sqrt(n) if n > 1 else 0.0


def log_mean_exp(values: Sequence[float]) -> float:
    """The logarithm of the mean of exponentials, without overflow."""
    top = max(values)
    return top + math.log(math.fsum(math.exp(value - top) for value in values) / len(values))
