"""No calls to an upscaler that keeps failing, until a trial succeeds."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from trustscale_server.platform.errors import TrustscaleError

_MAX_REST_S: Final = 60.0


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

    `Recovery` half opens it when the upstream is healthy again. `changed` is called when it opens
    (True) and closes (False).

    Attributes:
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
        self._closed = asyncio.Event()
        self._closed.set()

    @property
    def is_open(self) -> bool:
        return not self._closed.is_set()

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
            self._closed.clear()
            self._changed(True)

    def half_open(self) -> None:
        """Let calls through on trial: one success closes, one failure opens."""
        if self.is_open:
            self.failures, self._counted_at = self._policy.failures - 1, -math.inf
            self._close()

    async def closes(self, until: float) -> bool:
        """Return whether it closes before `until`, on the loop's clock."""
        try:
            async with asyncio.timeout_at(until):
                return await self._closed.wait()
        except TimeoutError:
            return False

    def _close(self) -> None:
        if self.is_open:
            self._closed.set()
            self._changed(False)


class Recovery:
    """Checks the health of an upstream while its breaker is open, and half opens that then.

    Args:
        probe: raises TrustscaleError or TimeoutError while the upstream is away.
        rest_s: the first pause before a check; it doubles up to a minute.
    """

    def __init__(
        self, breaker: Breaker, probe: Callable[[], Awaitable[None]], rest_s: float
    ) -> None:
        self._breaker = breaker
        self._probe = probe
        self._rest_s = rest_s
        self._task: asyncio.Task[None] | None = None
        self._is_stopped = False

    def begin(self) -> None:
        """Check from now on, unless it was stopped."""
        if self._is_stopped:
            return
        # An answer of a call that was in flight may have closed it while the last task slept.
        if self._task is not None:
            self._task.cancel()
        self._task = asyncio.create_task(self._recover())

    async def stop(self) -> None:
        """Check no more, also if a call in flight opens the breaker."""
        self._is_stopped = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _recover(self) -> None:
        rest_s = self._rest_s
        while self._breaker.is_open:
            await asyncio.sleep(rest_s)
            rest_s = min(2 * rest_s, _MAX_REST_S)
            try:
                async with asyncio.timeout(_MAX_REST_S):
                    await self._probe()
            except (TrustscaleError, TimeoutError):
                continue
            self._breaker.half_open()
