"""How many calls may be made at once."""

from __future__ import annotations

import anyio


class CallLimit:
    """Limits the calls in flight, and learns when the server takes fewer than configured.

    A server that is busy while n other calls are in flight takes n. After a round of successes, one
    for each slot, one more is tried. Where that one is refused before its own round has passed, the
    server really is smaller, and the next trial waits for twice as many successes.
    """

    def __init__(self, max_in_flight: int) -> None:
        self._max_in_flight = max_in_flight
        self._slots = anyio.CapacityLimiter(max_in_flight)
        self._successes = 0
        self._needed = 1
        self._on_trial = False

    @property
    def allowed(self) -> int:
        """The calls that may be in flight now."""
        return int(self._slots.total_tokens)

    @property
    def in_flight(self) -> int:
        return self._slots.borrowed_tokens

    async def __aenter__(self) -> None:
        await self._slots.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._slots.release()

    def busy(self) -> None:
        """Note that a call in flight was refused; call before it ends."""
        if self._on_trial:
            self._needed = min(2 * self._needed, 32)
        self._set(max(1, min(self.allowed, self.in_flight - 1)), on_trial=False)

    def succeeded(self) -> None:
        self._successes += 1
        if self._on_trial and self._successes >= self.allowed:
            self._needed, self._on_trial = 1, False
        if self.allowed < self._max_in_flight and self._successes >= max(
            self.allowed, self._needed
        ):
            self._set(self.allowed + 1, on_trial=True)

    def _set(self, allowed: int, *, on_trial: bool) -> None:
        self._slots.total_tokens = allowed
        self._on_trial, self._successes = on_trial, 0
