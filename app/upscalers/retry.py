"""How often and how long a call to an upscaler is retried, and after which pauses."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from app.upscalers.remote.errors import asked_wait, retriable


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a call is repeated for the same seeds.

    Which errors: `retriable`. The pause is what the server asks for, or else "full jitter", U(0,
    min(longest_s, first_s · 2ⁿ)), since the usual servers send no Retry-After.

    Attributes:
        attempts: of a call, including the first; also about how often a call with patience begins
            anew after the upscaler was away.
        total_s: no attempt begins later than this after the first failure.
        longest_asked_s: a server that asks for a longer pause ends the call, unless it has
            patience.
        spare: retries of a request beyond one per call. Without it, eight calls that fail at random
            with probability 0.2 run out in 0.15 % of the requests.
    """

    attempts: int = 8
    total_s: float = 600.0
    first_s: float = 0.25
    longest_s: float = 8.0
    longest_asked_s: float = 60.0
    spare: int = 4

    def pause(self, error: BaseException, tries: int, *, left_s: float = math.inf) -> float | None:
        """Seconds before the next attempt; None: there is none.

        Args:
            error: of the last attempt.
            tries: attempts so far.
            left_s: seconds within which the next one must begin.
        """
        if not retriable(error) or tries >= self.attempts:
            return None
        asked = asked_wait(error)
        if asked is None:
            seconds = random.uniform(0, min(self.longest_s, self.first_s * 2**tries))  # noqa: S311 - jitter
        elif asked <= self.longest_asked_s:
            seconds = spread(asked)
        else:
            return None
        return seconds if seconds < left_s else None

    def most_calls(self, calls: int, *, patient: bool = False) -> int:
        """The most calls, and payments, that a request of `calls` calls can become."""
        return calls * (2 + (self.attempts + 1) * patient) + self.spare

    def most_s(self, call_s: float, *, patience_s: float = 0.0) -> float:
        """The most seconds that a call can last, with attempts of `call_s` at most."""
        return call_s + max(self.total_s, patience_s) + call_s


def spread(asked: float) -> float:
    """A little more than the server asked for: it asked all calls for the same."""
    return asked + random.uniform(0, 0.1 * asked + 0.05)  # noqa: S311 - jitter
