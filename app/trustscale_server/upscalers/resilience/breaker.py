"""No calls to an upscaler that keeps failing, until a trial succeeds."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When the breaker opens, and when the upstream's health is checked then.

    failures: in a row; one pulled cable fails many calls, so those within `blip_s` count once.
    rest_s: the first pause before a check; it doubles up to a minute.
    """

    failures: int = 6
    blip_s: float = 1.0
    rest_s: float = 2.0


BREAKER = BreakerPolicy()


class Breaker:
    """Counts failures in a row; at a limit it opens, and no call is made.

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
        """Count a failed call, and open at the limit."""
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
        """Let calls through on trial: one success closes, one failure opens."""
        if self.is_open:
            self.failures, self._counted_at = self._policy.failures - 1, -math.inf
            self._close()

    def _close(self) -> None:
        if self.is_open:
            self.closed.set()
            self._changed(False)
