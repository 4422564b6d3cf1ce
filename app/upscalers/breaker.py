"""Circuit breaker and limit of concurrent calls."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import anyio


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When the breaker opens, and when the upstream's health is checked then.

    failures: in a row; those within `blip_s` of each other count once.
    rest_s: the first pause before a check; it doubles up to a minute.
    """

    failures: int = 6
    blip_s: float = 1.0
    rest_s: float = 2.0


class Breaker:
    """Counts failures in a row and opens at a limit.

    One pulled cable fails many calls at once, so failures within `blip_s` count once: what counts
    is how long an upstream is away, not how many calls were in flight.

    While it is open, no call is made. Its owner checks the upstream's health and calls `half_open`
    when that answers: then calls go through, and one failure opens the breaker again.

    Args:
        failures: the limit.
        changed: called when it opens (True) and closes (False).

    Attributes:
        closed: set while calls go through.
        failures: failures in a row so far.
    """

    def __init__(
        self,
        failures: int,
        blip_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        changed: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._limit = failures
        self._blip_s = blip_s
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
        """A call succeeded: close."""
        self.failures = 0
        self._close()

    def failed(self) -> None:
        """A call failed: open if the limit is reached."""
        now = self._clock()
        if now - self._counted_at >= self._blip_s:
            self._counted_at = now
            self.failures += 1
        if self.failures >= self._limit:
            self.open()

    def open(self) -> None:
        """Stop all calls."""
        if not self.is_open:
            self.closed.clear()
            self._changed(True)

    def half_open(self) -> None:
        """Let calls through on trial; one success closes, one failure opens."""
        if self.is_open:
            self.failures, self._counted_at = self._limit - 1, -math.inf
            self._close()

    def _close(self) -> None:
        if self.is_open:
            self.closed.set()
            self._changed(False)


class CallLimit:
    """Bounds the calls in flight, and learns when the server takes fewer than configured.

    A server that says "busy" while n other calls of ours are in flight takes n. After a number of
    successes one more is tried. First come, first served.
    """

    _SUCCESSES_TO_WIDEN = 32

    def __init__(self, most: int) -> None:
        self._most = most
        self._slots = anyio.CapacityLimiter(most)
        self._successes = 0

    @property
    def limit(self) -> int:
        return int(self._slots.total_tokens)

    @property
    def in_flight(self) -> int:
        return self._slots.borrowed_tokens

    async def __aenter__(self) -> None:
        await self._slots.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._slots.release()

    def busy(self) -> None:
        """A call in flight was refused for want of a slot; call before it leaves."""
        self._slots.total_tokens = max(1, min(self.limit, self.in_flight - 1))
        self._successes = 0

    def succeeded(self) -> None:
        """A call succeeded."""
        self._successes += 1
        if self._successes >= self._SUCCESSES_TO_WIDEN and self.limit < self._most:
            self._slots.total_tokens = self.limit + 1
            self._successes = 0


class MemoryCalls:
    """`app.stores.base.CallStore` for a process that shares its calls with no other."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started: dict[str, list[float]] = {}

    async def take(self, upscaler: str, most: int, *, seconds: float) -> float:
        """See `CallStore.take`."""
        started = self._within(upscaler, seconds)
        if len(started) >= most:
            return started[-most] + seconds - self._clock()
        started.append(self._clock())
        return 0.0

    async def count(self, upscaler: str, *, seconds: float) -> int:
        """See `CallStore.count`."""
        return len(self._within(upscaler, seconds))

    def _within(self, upscaler: str, seconds: float) -> list[float]:
        since = self._clock() - seconds
        kept = [start for start in self._started.get(upscaler, ()) if start > since]
        self._started[upscaler] = kept
        return kept
