"""Has the model behind an opaque API changed since it was calibrated?

A provider can replace a model without telling. So a few inputs, the canaries, are sent again on a
schedule. If the same seed gives the same bytes, their hashes must not change. Otherwise each answer
is reduced to a few numbers, and every new number is ranked among those drawn before: as long as the
model is the same, all ranks are equally likely. The randomised ranks are bet against by a simple
jumper, a test martingale: under an unchanged model its capital exceeds 1/δ at any time with
probability at most δ (Ville's inequality), so one may look as often as one likes. Several
statistics are watched by capitals of their own whose mean is again such a martingale.

Sources: Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2nd ed., ch. 8 (simple
jumper); the accounts bet with e in {−1, 0, 1} and jump with J = 0.01.

Everything here is pure: the caller stores the model and sends the images.
"""

from __future__ import annotations

import bisect
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from app.conformal.drift import jump_and_bet
from app.upscalers.base import RGB

DELTA = 0.01
"""Probability that an unchanged model ever raises the alarm."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Canary(_Frozen):
    """One input and what its answers were; the input itself is stored elsewhere, by this name.

    seed: sent with every call when answers are compared exactly.
    sha256: of the answer to it; None where the same seed does not repeat, or nobody compares it.
    draws: values of each statistic of answers to other seeds so far, sorted.
    """

    name: str
    seed: int
    sha256: str | None = None
    draws: dict[str, tuple[float, ...]] = Field(default_factory=dict)


class Canaries(_Frozen):
    """All canaries of one calibration, and the evidence so far.

    capital: of the three accounts, for each statistic; they start at a third each.
    changed: canaries whose exact answer changed.
    """

    fingerprint: str
    items: tuple[Canary, ...]
    capital: dict[str, tuple[float, float, float]] = Field(default_factory=dict)
    changed: tuple[str, ...] = ()

    @property
    def evidence(self) -> float:
        """Capital against "nothing has changed": at least 1/δ with probability ≤ δ if so."""
        if self.changed:
            return math.inf
        if not self.capital:
            return 1.0
        return sum(sum(accounts) for accounts in self.capital.values()) / len(self.capital)

    def alarms(self, delta: float = DELTA) -> bool:
        """Whether to believe in a change, being wrong with probability at most `delta` ever."""
        return self.evidence >= 1 / delta


def statistics_of(sample: RGB) -> dict[str, float]:
    """Numbers that another model would change: brightness, contrast, sharpness (log scale)."""
    grey = sample.astype(np.float32) @ _LUMA
    steps = float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean())
    return {
        "brightness": float(grey.mean()),
        "contrast": math.log(float(grey.std()) + 1e-6),
        "sharpness": math.log(steps + 1e-6),
    }


def digest_of(sample: RGB) -> str:
    """SHA-256 of shape and pixels."""
    digest = hashlib.sha256(repr(sample.shape).encode())
    digest.update(np.ascontiguousarray(sample).data)
    return digest.hexdigest()


def start(fingerprint: str, canaries: Sequence[Canary]) -> Canaries:
    """What is watched from now on, of canaries that tell both their answer and their draws.

    Answers will be compared exactly if every canary gave the same bytes to the same seed twice,
    else statistically: then the number of draws decides how small a rank can get.

    Raises:
        ValueError: no canary.
    """
    if not canaries:
        raise ValueError("at least one canary is needed")
    exact = all(canary.sha256 is not None for canary in canaries)
    unused: dict[str, object] = {"draws": {}} if exact else {"sha256": None}
    return Canaries(
        fingerprint=fingerprint,
        items=tuple(canary.model_copy(update=unused) for canary in canaries),
        capital={} if exact else dict.fromkeys(canaries[0].draws, (1 / 3, 1 / 3, 1 / 3)),
    )


def observe(
    canaries: Canaries, answers: Mapping[str, RGB], uniform: Callable[[], float]
) -> Canaries:
    """The canaries after one fresh answer each; canaries without an answer stay as they are.

    Args:
        canaries: the state so far.
        answers: by the canary's name. Statistical canaries need a fresh draw: a new seed where the
            API has seeds, and no cache.
        uniform: draws from U(0, 1), to break ties.
    """
    capital = dict(canaries.capital)
    changed = set(canaries.changed)
    items = []
    for item in canaries.items:
        answer = answers.get(item.name)
        if answer is None:
            items.append(item)
        elif item.sha256 is not None:
            if digest_of(answer) != item.sha256:
                changed.add(item.name)
            items.append(item)
        else:
            draws = dict(item.draws)
            for key, value in statistics_of(answer).items():
                capital[key] = _bet(capital[key], _rank(draws[key], value, uniform()))
                draws[key] = tuple(sorted((*draws[key], value)))
            items.append(item.model_copy(update={"draws": draws}))
    return canaries.model_copy(
        update={"items": tuple(items), "capital": capital, "changed": tuple(sorted(changed))}
    )


def _rank(earlier: Sequence[float], value: float, uniform: float) -> float:
    """The randomised rank of a new value, U(0, 1) if all values come from one distribution."""
    below, up_to = bisect.bisect_left(earlier, value), bisect.bisect_right(earlier, value)
    greater, equal = len(earlier) - up_to, up_to - below
    return (greater + uniform * (equal + 1)) / (len(earlier) + 1)


def _bet(accounts: tuple[float, float, float], p: float) -> tuple[float, float, float]:
    """One round of the simple jumper (`app/conformal/drift.py`) on capital instead of shares."""
    total = sum(accounts)
    low, none, high = accounts
    after, factor = jump_and_bet((low / total, none / total, high / total), p)
    low, none, high = (share * total * factor for share in after)
    return low, none, high
