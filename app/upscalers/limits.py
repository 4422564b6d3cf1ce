"""Limits of the calls to a remote upscaler: retries, failures in a row, calls in flight."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import anyio

from app.upscalers.remote.errors import asked_wait, retriable


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a call is repeated for the same seeds, after `retriable` errors.

    The pause is what the server asks for, or "full jitter", U(0, min(longest_s, first_s · 2ⁿ)).

    Attributes:
        attempts: of a call; also about how often a call with patience starts over after the
            upscaler was away.
        total_s: no attempt begins later than this after the first failure.
        longest_asked_s: a longer pause ends a call without patience.
        spare: retries of a request beyond one per call. Without it, eight calls that fail with
            probability 0.2 run out in 0.15 % of the requests.
    """

    attempts: int = 8
    total_s: float = 600.0
    first_s: float = 0.25
    longest_s: float = 8.0
    longest_asked_s: float = 60.0
    spare: int = 4

    def pause(self, error: BaseException, tries: int, *, left_s: float = math.inf) -> float | None:
        """Seconds before the next attempt, less than `left_s`; None: there is none."""
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


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When the breaker opens, and when the upstream's health is checked then.

    failures: in a row; one pulled cable fails many calls, so those within `blip_s` count once.
    rest_s: the first pause before a check; it doubles up to a minute.
    """

    failures: int = 6
    blip_s: float = 1.0
    rest_s: float = 2.0


class Breaker:
    """Counts failures in a row and opens at a limit: then no call is made.

    Its owner calls `half_open` when the upstream is healthy again. `changed` is called when it
    opens (True) and closes (False).

    Attributes:
        closed: set while calls go through.
        failures: in a row so far.
    """

    def __init__(
        self,
        policy: BreakerPolicy,
        clock: Callable[[], float] = time.monotonic,
        changed: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._changed = changed
        self._counted_at = -math.inf
        self.failures = 0
        self.closed = asyncio.Event()
        self.closed.set()

    @property
    def is_open(self) -> bool:
        return not self.closed.is_set()

    def succeeded(self) -> None:
        self.failures = 0
        self._close()

    def failed(self) -> None:
        """A call failed: open if the limit is reached."""
        now = self._clock()
        if now - self._counted_at >= self._policy.blip_s:
            self._counted_at = now
            self.failures += 1
        if self.failures >= self._policy.failures:
            self.open()

    def open(self) -> None:
        if not self.is_open:
            self.closed.clear()
            self._changed(True)

    def half_open(self) -> None:
        """Let calls through on trial; one success closes, one failure opens."""
        if self.is_open:
            self.failures, self._counted_at = self._policy.failures - 1, -math.inf
            self._close()

    def _close(self) -> None:
        if self.is_open:
            self.closed.set()
            self._changed(False)


class CallLimit:
    """Limits the calls in flight, and learns when the server takes fewer than configured.

    A server that is busy while n other calls are in flight takes n. After 32 successes one more is
    tried.
    """

    _SUCCESSES_TO_WIDEN = 32

    def __init__(self, most: int) -> None:
        self._most = most
        self._slots = anyio.CapacityLimiter(most)
        self._successes = 0

    @property
    def in_flight(self) -> int:
        return self._slots.borrowed_tokens

    async def __aenter__(self) -> None:
        await self._slots.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._slots.release()

    def busy(self) -> None:
        """A call in flight was refused; call before it ends."""
        self._slots.total_tokens = max(1, min(self._slots.total_tokens, self.in_flight - 1))
        self._successes = 0

    def succeeded(self) -> None:
        self._successes += 1
        if self._successes >= self._SUCCESSES_TO_WIDEN and self._slots.total_tokens < self._most:
            self._slots.total_tokens += 1
            self._successes = 0
