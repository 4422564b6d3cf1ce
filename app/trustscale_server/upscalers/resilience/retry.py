"""When a call is tried again."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trustscale_server.platform.retry import full_jitter
from trustscale_server.upscalers.failures import asked_wait, retriable


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a call with the same seeds is repeated, after `retriable` errors.

    The pause is what the server asks for, or "full jitter", U(0, min(max_pause_s, first_s · 2ⁿ)).

    Attributes:
        max_attempts: of a call; also about how often a call with patience starts over after the
            upscaler was away.
        total_s: no attempt begins later than this after the first failure.
        longest_asked_s: a longer pause ends a call without patience.
        spare: retries of a request beyond one per call.
    """

    max_attempts: int = 8
    total_s: float = 600.0
    first_s: float = 0.25
    max_pause_s: float = 8.0
    longest_asked_s: float = 60.0
    spare: int = 4

    def pause(self, error: BaseException, tries: int, *, left_s: float = math.inf) -> float | None:
        """Return seconds before the next attempt, less than `left_s`; None if there is none."""
        if not retriable(error) or tries >= self.max_attempts:
            return None
        pause_s = asked_wait(error)
        if pause_s is None:
            seconds = full_jitter(min(self.max_pause_s, self.first_s * 2**tries))
        elif pause_s <= self.longest_asked_s:
            seconds = spread(pause_s)
        else:
            return None
        return seconds if seconds < left_s else None


def spread(pause_s: float) -> float:
    """A little more than the server asked for: it asked all calls for the same."""
    return pause_s + full_jitter(0.1 * pause_s + 0.05)
