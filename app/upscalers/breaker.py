"""Do not call what is dead, and do not call more at once than is taken."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from contextlib import suppress


class Breaker:
    """Counts failures in a row and opens at a limit.

    Calls fail together when one cable is pulled, so failures within `blip_s` count once: what opens
    it is how long an upstream is away, not how many calls were in flight.

    Open, nobody calls. Whoever owns the breaker asks for the upstream's health meanwhile and calls
    `half_open` when it answers: then calls go through, and one failure opens the breaker again.
    """

    def __init__(self, failures: int, blip_s: float = 1.0) -> None:
        self._limit = failures
        self._blip_s = blip_s
        self._counted_at = -math.inf
        self._failures = 0
        self._is_open = False

    @property
    def is_open(self) -> bool:
        return self._is_open

    @property
    def failures(self) -> int:
        """How often in a row it has failed."""
        return self._failures

    def succeeded(self) -> None:
        """A call succeeded: close."""
        self._failures, self._is_open = 0, False

    def failed(self) -> bool:
        """A call failed; whether this opened the breaker."""
        now = time.monotonic()
        if now - self._counted_at >= self._blip_s:
            self._counted_at = now
            self._failures += 1
        return self._failures >= self._limit and self.open()

    def open(self) -> bool:
        """Let nobody call; whether this changed anything."""
        was_open, self._is_open = self._is_open, True
        return not was_open

    def half_open(self) -> None:
        """The upstream looks alive: let calls through, but believe it only after a success."""
        if self._is_open:
            self._failures, self._is_open = self._limit - 1, False
            self._counted_at = -math.inf


class CallLimit:
    """Bounds the calls in flight, and learns when the server takes fewer than configured.

    A server that says "busy" while n other calls of ours are in flight takes n: calling more would
    only be refused. After a while of successes one more is tried. First come, first served.
    """

    _SUCCESSES_TO_WIDEN = 32

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = most
        self._in_flight = 0
        self._successes = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def limit(self) -> int:
        return self._limit

    @property
    def in_flight(self) -> int:
        return self._in_flight

    async def __aenter__(self) -> None:
        if self._in_flight < self._limit and not self._waiting:
            self._in_flight += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn  # `_admit` has counted this call when it resolves
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave()
            else:
                with suppress(ValueError):  # who left at the same time has passed it over already
                    self._waiting.remove(turn)
            raise

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def busy(self) -> None:
        """A call in flight was refused for want of a slot; call before it leaves."""
        self._limit = max(1, min(self._limit, self._in_flight - 1))
        self._successes = 0

    def succeeded(self) -> None:
        """A call succeeded."""
        self._successes += 1
        if self._successes >= self._SUCCESSES_TO_WIDEN and self._limit < self._most:
            self._limit += 1
            self._successes = 0
            self._admit()

    def _leave(self) -> None:
        self._in_flight -= 1
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._in_flight < self._limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self._in_flight += 1
                turn.set_result(None)


class SpendGuard:
    """At most so many calls in any hour."""

    _HOUR_S = 3600.0

    def __init__(self, calls_per_hour: int | None) -> None:
        self._limit = calls_per_hour
        self._started: list[float] = []

    @property
    def spent(self) -> int | None:
        """Calls of the last hour; None: they are not counted, for there is no limit."""
        if self._limit is None:
            return None
        now = time.monotonic()
        self._started = [start for start in self._started if now - start < self._HOUR_S]
        return len(self._started)

    def wait_s(self) -> float:
        """Seconds until the next call is allowed; 0: now."""
        if self._limit is None or (self.spent or 0) < self._limit:
            return 0.0
        return self._started[0] + self._HOUR_S - time.monotonic()

    def spend(self) -> None:
        """Count a call that starts now."""
        if self._limit is not None:
            self._started.append(time.monotonic())
