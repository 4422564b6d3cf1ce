"""A remote upscaler with retries, limits and a circuit breaker.

::

    generate ──▶ breaker ──▶ slot ──▶ account of calls ──▶ time limit ──▶ inner.generate
        ▲                                                                       │
        └──── error: wait (Retry-After, else jitter), within the budget ◀───────┘

A retry uses the same seed, so it makes the same sample. While the upstream is away, the breaker
fails at once, and a free health check finds out when it is back; a call with patience
(`MemoryPermit.patience_s`) waits for that. Any other exception of an adapter becomes an upscaler
error.
"""

from __future__ import annotations

import asyncio
import math
import time
import traceback
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import structlog

from trustscale_server.platform.errors import (
    ProtocolError,
    TimedOut,
    TrustscaleError,
    UpscalerError,
    UpscalerUnavailable,
)
from trustscale_server.platform.retry import retried
from trustscale_server.platform.telemetry.metrics import Metrics
from trustscale_server.platform.telemetry.traces import span
from trustscale_server.upscalers.base import RGB, Source, Upscaler, Wrapped
from trustscale_server.upscalers.config import RemoteConfig
from trustscale_server.upscalers.failures import (
    BreakerOpen,
    Busy,
    asked_wait,
    metrics_label,
    needs_operator,
)
from trustscale_server.upscalers.permit import MemoryPermit
from trustscale_server.upscalers.resilience.account import CallAccount
from trustscale_server.upscalers.resilience.breaker import BREAKER, Breaker, BreakerPolicy, Recovery
from trustscale_server.upscalers.resilience.limit import CallLimit
from trustscale_server.upscalers.resilience.retry import RetryPolicy, spread

log = structlog.get_logger(__name__)


class ResilientUpscaler(Wrapped):
    """`Upscaler` around a remote one, within the limits of its configuration.

    `metrics` may be set any time before the first call.
    """

    def __init__(
        self,
        inner: Upscaler,
        config: RemoteConfig,
        metrics: Metrics | None = None,
        policy: RetryPolicy | None = None,
        breaker: BreakerPolicy = BREAKER,
        account: CallAccount | None = None,
    ) -> None:
        super().__init__(inner)
        self.metrics = metrics or Metrics()
        self._config = config
        self._policy = policy or RetryPolicy()
        self._rest_s = breaker.rest_s
        self._breaker = Breaker(breaker, changed=self._breaker_changed)
        self._recovery = Recovery(self._breaker, self.probe, breaker.rest_s)
        self._account = account or CallAccount(config)
        self._slots = CallLimit(config.concurrency * len(config.addresses))
        self._in_flight = 0
        self.metrics.set("upstream_calls_in_flight", 0, self.name)

        self._retries: weakref.WeakKeyDictionary[Source, int] = weakref.WeakKeyDictionary()

    @property
    def breaker_open(self) -> bool:
        return self._breaker.is_open

    async def spent(self) -> tuple[int, int] | None:
        """See `CallAccount.spent`."""
        return await self._account.spent()

    async def generate(
        self, source: Source, seeds: Sequence[int], permit: MemoryPermit | None = None
    ) -> list[RGB]:
        """Generate with retries; raises the last error of all attempts."""
        with self._counted_in_flight():
            return await self._generate(source, seeds, permit or MemoryPermit())

    async def _generate(
        self, source: Source, seeds: Sequence[int], permit: MemoryPermit
    ) -> list[RGB]:
        patience_s = max(permit.patience_s, min(self._config.cold_start_s, permit.remaining_s()))
        self._retries[source] = self._retries.get(source, self._policy.spare) + 1
        clock, failed_at = asyncio.get_running_loop().time, math.inf

        def pause(error: UpscalerError, tries: int) -> float | None:
            nonlocal failed_at
            permit.give_back()
            failed_at = min(failed_at, clock())
            left_s = min(failed_at + self._policy.total_s - clock(), permit.remaining_s())
            seconds = self._policy.pause(error, tries, left_s=left_s)
            return None if self._retries[source] < 1 else seconds

        def count(error: UpscalerError, seconds: float) -> None:
            self._retries[source] -= 1
            why = metrics_label(error)
            self.metrics.count("upstream_retries", self.name, why)
            log.info("tried_again", upscaler=self.name, reason=why, in_s=round(seconds, 2))

        call = partial(self._try, source, seeds, permit)
        rounds = 0
        while True:
            try:
                return await retried(call, UpscalerError, pause, before_pause=count)
            except UpscalerError as error:
                if not isinstance(error, BreakerOpen):
                    rounds += 1
                # Health checks may pass while generations fail.
                rest_s = patience_s / self._policy.max_attempts if rounds > 1 else 0.0
                await self._wait_for_return(error, rest_s, failed_at + patience_s)

    async def _wait_for_return(self, error: UpscalerError, pause_s: float, until: float) -> None:
        """Return when an upscaler that is away may be back, or else raise the error.

        It waits at least `pause_s`; the next attempt must begin at `until`, on the loop's clock.
        """
        asked_s = asked_wait(error) or 0.0
        names_its_return = asked_s > self._policy.longest_asked_s
        if names_its_return:
            pause_s = max(pause_s, spread(asked_s))
        is_away = isinstance(error, UpscalerUnavailable) and not needs_operator(error)
        if not is_away or asyncio.get_running_loop().time() + pause_s >= until:
            raise error
        await asyncio.sleep(pause_s)
        if names_its_return:
            return
        self._breaker.open()
        if not await self._breaker.closes(until):
            raise error

    async def probe(self) -> None:
        with self._translated():
            await self.inner.probe()

    async def wake(self) -> None:
        """Repeat `probe` within `cold_start_s`, since requests start the upstream."""
        clock = asyncio.get_running_loop().time
        until = clock() + self._config.cold_start_s
        with self._counted_in_flight():
            await retried(
                self.probe,
                UpscalerUnavailable,
                lambda *_: self._rest_s if clock() + self._rest_s < until else None,
            )

    @contextmanager
    def _counted_in_flight(self) -> Iterator[None]:
        """Count the block as an open call, by which workers are scaled."""
        self._in_flight += 1
        self.metrics.set("upstream_calls_in_flight", self._in_flight, self.name)
        try:
            yield
        finally:
            self._in_flight -= 1
            self.metrics.set("upstream_calls_in_flight", self._in_flight, self.name)

    async def close(self) -> None:
        await self._recovery.stop()
        await self.inner.close()

    async def _try(self, source: Source, seeds: Sequence[int], permit: MemoryPermit) -> list[RGB]:
        self._admit()
        async with self._slots:
            self._admit()
            await self._account.begin()
            started = time.monotonic()
            outcome = "cancelled"
            try:
                with span("try", {"trustscale.upscaler": self.name}, kind="client"):
                    samples = await self._timed(source, seeds, permit)
                outcome = "ok"
            except UpscalerError as error:
                outcome = metrics_label(error)
                self._count(error)
                raise
            finally:
                self.metrics.count("upstream_calls", self.name, outcome)
                self.metrics.count("upstream_price", self.name, by=self._account.price)
                if outcome != "cancelled":
                    seconds = time.monotonic() - started
                    self.metrics.observe("upstream_call_seconds", seconds, self.name)
            self._slots.succeeded()
            self._breaker.succeeded()
            return samples

    async def _timed(self, source: Source, seeds: Sequence[int], permit: MemoryPermit) -> list[RGB]:
        limit = self._config.call_timeout_s
        try:
            async with permit.limited(limit):
                with self._translated():
                    return await self.inner.generate(source, seeds, permit)
        except TimeoutError as error:
            raise TimedOut(f"{self.name!r} gave no sample within {limit:g} s.") from error

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (TrustscaleError, TimeoutError):
            raise
        except Exception as error:
            # Text and values may hold the upstream's answer, or the token.
            frame = traceback.extract_tb(error.__traceback__)[-1]
            log.error(  # noqa: TRY400 - for the same reason
                "answer_not_translated",
                upscaler=self.name,
                error=type(error).__name__,
                place=f"{frame.filename}:{frame.lineno}",
            )
            raise ProtocolError(
                f"{self.name!r} answered with something that cannot be read "
                f"({type(error).__name__})."
            ) from error

    def _admit(self) -> None:
        """Raise BreakerOpen if the upstream is considered dead."""
        if self._breaker.is_open:
            raise BreakerOpen(
                f"{self.name!r} has failed many times in a row; it is called again as soon as it "
                "answers a health check.",
                retry_after=self._rest_s,
            )

    def _count(self, error: UpscalerError) -> None:
        """Narrow the slots, or update the breaker."""
        if isinstance(error, Busy) and self._slots.in_flight > 1:
            self._slots.busy()
        elif isinstance(error, UpscalerUnavailable):
            self._breaker.failed()
        else:
            self._breaker.succeeded()  # it answered

    def _breaker_changed(self, is_open: bool) -> None:
        self.metrics.set("upstream_breaker_open", is_open, self.name)
        if is_open:
            self._recovery.begin()
