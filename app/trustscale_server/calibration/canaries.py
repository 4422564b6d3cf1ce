"""Canaries: inputs of a calibration that are sent again, to detect a replaced model.

If equal seeds give equal bytes, the answers' digests must not change. Otherwise each answer is
reduced to its sharpness, and every new one is ranked among earlier draws: under an unchanged model
all ranks are equally likely. The capital of a bet against that (`conformal/evidence.py`)
reaches 1/δ at any time with probability at most δ (Ville's inequality).

The M samples of a pair are draws already; testing for exact repetition costs one more call per
canary. `canary_store.py` keeps them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from trustscale_server.conformal.evidence import START, Accounts, bet, rank
from trustscale_server.pixels.lab import LUMA
from trustscale_server.upscalers.base import RGB, image_digest

FALSE_CANARY_ALARM: Final = 0.01
"""Probability that an unchanged model ever raises the alarm."""

MAX_CANARIES: Final = 8
"""Canaries of one calibration, and generations of a round."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Canary(_Frozen):
    """One input, stored elsewhere by this name, and its answers.

    seed, sha256: of the exact answer; no digest: sharpness is compared.
    draws: the sharpness of answers to other seeds so far, sorted.
    """

    name: str
    seed: int
    sha256: str | None = None
    draws: tuple[float, ...] = ()


class CanaryState(_Frozen):
    """All canaries of one calibration, and the evidence so far.

    samples: M; fresh draws take their seeds as the M first ones did.
    capital: of the accounts.
    changed: canaries whose exact answer changed.
    at: of the last round, or of the calibration.
    begun: when a process began the last round, which may have failed.
    alarm: stays once raised.
    """

    fingerprint: str
    samples: int
    items: tuple[Canary, ...]
    at: datetime
    begun: datetime | None = None
    capital: Accounts = START
    changed: tuple[str, ...] = ()
    rounds: int = 0
    alarm: bool = False

    @property
    def evidence(self) -> float:
        """The capital against "nothing has changed": ≥ 1/δ with probability ≤ δ if so."""
        if self.changed:
            return math.inf
        return sum(self.capital)


def first_state(fingerprint: str, samples: int, canaries: Sequence[Canary]) -> CanaryState:
    """Return the canaries to watch, at least one, from their answers and draws.

    Answers are compared exactly if every canary repeated its bytes, else statistically, where the
    number of draws limits how small a rank can get.
    """
    exact = all(canary.sha256 is not None for canary in canaries)
    unused: dict[str, object] = {"draws": ()} if exact else {"sha256": None}
    return CanaryState(
        fingerprint=fingerprint,
        samples=samples,
        items=tuple(canary.model_copy(update=unused) for canary in canaries),
        at=datetime.now(UTC),
    )


class CanaryAnswer(NamedTuple):
    """What is compared of an answer: its digest and its sharpness."""

    sha256: str
    sharpness: float

    @classmethod
    def from_picture(cls, picture: RGB) -> CanaryAnswer:
        """Reduce an answer, which takes a tenth of a second of a large one."""
        return cls(image_digest(picture), sharpness(picture))


def observe(
    state: CanaryState,
    answers: Mapping[str, CanaryAnswer],
    uniform: Callable[[], float],
    at: datetime,
) -> CanaryState:
    """Return the state after a round; canaries without an answer stay as they are.

    answers: by the canary's name; statistical ones are fresh draws.
    uniform: draws from U(0, 1), to break ties.
    """
    capital, changed, items = state.capital, {*state.changed}, [*state.items]
    for place, item in enumerate(state.items):
        answer = answers.get(item.name)
        if answer is None:
            continue
        if item.sha256 is None:
            capital = bet(capital, rank((np.array(item.draws),), answer.sharpness, uniform()))
            draws = tuple(sorted((*item.draws, answer.sharpness)))
            items[place] = item.model_copy(update={"draws": draws})
        elif answer.sha256 != item.sha256:
            changed.add(item.name)
    changes = {"items": tuple(items), "capital": capital, "changed": tuple(sorted(changed))}
    after = state.model_copy(update={**changes, "at": at, "rounds": state.rounds + 1})
    is_alarming = after.evidence >= 1 / FALSE_CANARY_ALARM
    return after.model_copy(update={"alarm": True}) if is_alarming else after


def sharpness(sample: RGB) -> float:
    """Return the log of the mean difference of neighbours, which differs between models."""
    grey = sample.astype(np.float32) @ LUMA
    steps = float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean())
    return math.log(steps + 1e-6)


def chosen(names: Sequence[str]) -> list[str]:
    """Choose up to `MAX_CANARIES`, evenly spread, since neighbouring pairs are often alike."""
    places = np.linspace(0, len(names) - 1, min(MAX_CANARIES, len(names))).round().astype(int)
    return [names[place] for place in places]
