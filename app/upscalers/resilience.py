"""A remote upscaler with retries, limits and a circuit breaker.

::

    generate ──▶ breaker ──▶ spend guard ──▶ slots ──▶ time limit ──▶ inner.generate
        ▲                                                                  │
        └─────────── wait (Retry-After, else jitter), budget, same seed ◀──┘

A retry uses the same seed, so it makes the same sample. While the upstream is away, the breaker
fails at once, and a free health check finds out when it is back; a call with patience
(`MemoryPermit.patience_s`) waits for that. Any other exception of an adapter becomes an upscaler
error.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
import traceback
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import anyio
import structlog

from trustscale_server.errors import (
    ProtocolError,
    TimedOut,
    TrustscaleError,
    UpscalerError,
    UpscalerUnavailable,
)
from trustscale_server.stores.base import CallStore, Usage
from trustscale_server.telemetry.signals import Metrics, span
from trustscale_server.upscalers.base import (
    RGB,
    MemoryPermit,
    Source,
    Upscaler,
    Wrapped,
)
from trustscale_server.upscalers.config import RemoteConfig
from trustscale_server.upscalers.remote.http import (
    BreakerOpen,
    Busy,
    QuotaSpent,
    asked_wait,
    metrics_label,
    needs_operator,
    retriable,
)

_LONGEST_REST_S = 60.0
_HOUR_S = 3600.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a call with the same seeds is repeated, after `retriable` errors.

    The pause is what the server asks for, or "full jitter", U(0, min(longest_s, first_s · 2ⁿ)).

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
    longest_s: float = 8.0
    longest_asked_s: float = 60.0
    spare: int = 4

    def pause(self, error: BaseException, tries: int, *, left_s: float = math.inf) -> float | None:
        """Return seconds before the next attempt, less than `left_s`; None if there is none."""
        if not retriable(error) or tries >= self.max_attempts:
            return None
        pause_s = asked_wait(error)
        if pause_s is None:
            seconds = random.uniform(0, min(self.longest_s, self.first_s * 2**tries))  # noqa: S311 - jitter
        elif pause_s <= self.longest_asked_s:
            seconds = _spread(pause_s)
        else:
            return None
        return seconds if seconds < left_s else None


def _spread(pause_s: float) -> float:
    """A little more than the server asked for: it asked all calls for the same."""
    return pause_s + random.uniform(0, 0.1 * pause_s + 0.05)  # noqa: S311 - jitter


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When the breaker opens, and when the upstream's health is checked then.

    failures: in a row; one pulled cable fails many calls, so those within `blip_s` count once.
    rest_s: the first pause before a check; it doubles up to a minute.
    """

    failures: int = 6
    blip_s: float = 1.0
    rest_s: float = 2.0


_BREAKER = BreakerPolicy()


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


class CallLimit:
    """Limits the calls in flight, and learns when the server takes fewer than configured.

    A server that is busy while n other calls are in flight takes n. After a round of successes, one
    for each slot, one more is tried. Where that one is refused before its own round has passed, the
    server really is smaller, and the next trial waits for twice as many successes.
    """

    _MOST_SUCCESSES = 32

    def __init__(self, most: int) -> None:
        self._most = most
        self._slots = anyio.CapacityLimiter(most)
        self._successes = 0
        self._needed = 1
        self._on_trial = False

    @property
    def most(self) -> int:
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
            self._needed = min(2 * self._needed, self._MOST_SUCCESSES)
        self._set(max(1, min(self.most, self.in_flight - 1)), on_trial=False)

    def succeeded(self) -> None:
        self._successes += 1
        if self._on_trial and self._successes >= self.most:
            self._needed, self._on_trial = 1, False
        if self.most < self._most and self._successes >= max(self.most, self._needed):
            self._set(self.most + 1, on_trial=True)

    def _set(self, most: int, *, on_trial: bool) -> None:
        self._slots.total_tokens = most
        self._on_trial, self._successes = on_trial, 0


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
        breaker: BreakerPolicy = _BREAKER,
        calls: CallStore | None = None,
        usage: Usage | None = None,
    ) -> None:
        super().__init__(inner)
        self.metrics = metrics or Metrics()
        self._config = config
        self._policy = policy or RetryPolicy()
        self._rest_s = breaker.rest_s
        self._breaker = Breaker(breaker, changed=self._breaker_changed)
        self._calls = calls
        self._usage = usage
        self._slots = CallLimit(config.concurrency * len(config.addresses))
        self._recovery: asyncio.Task[None] | None = None
        self._is_closed = False
        self._open = 0
        self.metrics.set("upstream_calls_in_flight", 0, self.name)

        self._retries: weakref.WeakKeyDictionary[Source, int] = weakref.WeakKeyDictionary()

    @property
    def breaker_open(self) -> bool:
        return self._breaker.is_open

    async def spent(self) -> tuple[int, int] | None:
        """Return the calls of all gateways in the last hour and their limit, or None.

        Raises StoreUnavailable.
        """
        limit = self._config.max_calls_per_hour
        if self._calls is None or limit is None:
            return None
        return await self._calls.count(self.name, seconds=_HOUR_S), limit

    async def generate(
        self, source: Source, seeds: Sequence[int], turn: MemoryPermit | None = None
    ) -> list[RGB]:
        """Generate with retries; raises the last error of all attempts."""
        with self._counted_open():
            return await self._generate(source, seeds, turn or MemoryPermit())

    async def _generate(
        self, source: Source, seeds: Sequence[int], turn: MemoryPermit
    ) -> list[RGB]:
        patience_s = max(turn.patience_s, min(self._config.cold_start_s, turn.remaining_s()))
        self._retries[source] = self._retries.get(source, self._policy.spare) + 1
        clock, failed_at = asyncio.get_running_loop().time, math.inf
        tries = rounds = 0
        while True:
            tries += 1
            try:
                return await self._try(source, seeds, turn)
            except UpscalerError as error:
                turn.give_back()
                failed_at = min(failed_at, clock())
                left_s = min(failed_at + self._policy.total_s - clock(), turn.remaining_s())
                pause = self._policy.pause(error, tries, left_s=left_s)
                if pause is None or self._retries[source] < 1:
                    if not isinstance(error, BreakerOpen):
                        rounds += 1
                    # Health checks may pass while generations fail.
                    pause = patience_s / self._policy.max_attempts if rounds > 1 else 0.0
                    await self._wait_for_return(error, pause, failed_at + patience_s)
                    tries = 0
                    continue
                why = metrics_label(error)
            self._retries[source] -= 1
            self.metrics.count("upstream_retries", self.name, why)
            log.info("tried_again", upscaler=self.name, reason=why, in_s=round(pause, 2))
            await asyncio.sleep(pause)

    async def _wait_for_return(self, error: UpscalerError, pause: float, until: float) -> None:
        """Return when an upscaler that is away may be back, or else raise the error.

        It waits at least `pause` seconds; the next attempt must begin at `until`, on the loop's
        clock.
        """
        pause_s = asked_wait(error) or 0.0
        is_alive = pause_s > self._policy.longest_asked_s
        pause = max(pause, _spread(pause_s)) if is_alive else pause
        is_away = isinstance(error, UpscalerUnavailable) and not needs_operator(error)
        if not is_away or asyncio.get_running_loop().time() + pause >= until:
            raise error
        await asyncio.sleep(pause)
        if is_alive:
            return
        self._breaker.open()
        if not await self._comes_back(until):
            raise error

    async def _comes_back(self, until: float) -> bool:
        try:
            async with asyncio.timeout_at(until):
                return await self._breaker.closed.wait()
        except TimeoutError:
            return False

    async def check(self) -> None:
        with self._translated():
            await self.inner.check()

    async def wake(self) -> None:
        """Repeat `check` within `cold_start_s`, since requests start the upstream."""
        clock = asyncio.get_running_loop().time
        until = clock() + self._config.cold_start_s
        with self._counted_open():
            while True:
                try:
                    return await self.check()
                except UpscalerUnavailable:
                    if clock() + self._rest_s >= until:
                        raise
                await asyncio.sleep(self._rest_s)

    @contextmanager
    def _counted_open(self) -> Iterator[None]:
        """Count the block as an open call, by which workers are scaled."""
        self._open += 1
        self.metrics.set("upstream_calls_in_flight", self._open, self.name)
        try:
            yield
        finally:
            self._open -= 1
            self.metrics.set("upstream_calls_in_flight", self._open, self.name)

    async def close(self) -> None:
        # A call in flight may still open the breaker.
        self._is_closed = True
        if self._recovery is not None:
            self._recovery.cancel()
            await asyncio.wait([self._recovery])
        await self.inner.close()

    async def _try(self, source: Source, seeds: Sequence[int], turn: MemoryPermit) -> list[RGB]:
        self._admit()
        async with self._slots:
            self._admit()
            await self._spend()
            started = time.monotonic()
            outcome = "cancelled"
            try:
                with span("try", {"trustscale.upscaler": self.name}, kind="client"):
                    samples = await self._timed(source, seeds, turn)
                outcome = "ok"
            except UpscalerError as error:
                outcome = metrics_label(error)
                self._count(error)
                raise
            finally:
                self.metrics.count("upstream_calls", self.name, outcome)
                price = self._config.price_per_call or 0.0
                self.metrics.count("upstream_price", self.name, by=price)
                if self._usage is not None:
                    self._usage.called(self.name, price)
                if outcome != "cancelled":
                    seconds = time.monotonic() - started
                    self.metrics.observe("upstream_call_seconds", seconds, self.name)
            self._slots.succeeded()
            self._breaker.succeeded()
            return samples

    async def _timed(self, source: Source, seeds: Sequence[int], turn: MemoryPermit) -> list[RGB]:
        limit = self._config.call_timeout_s
        try:
            async with turn.limited(limit):
                with self._translated():
                    return await self.inner.generate(source, seeds, turn)
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

    async def _spend(self) -> None:
        """Count a call that starts now. Raises QuotaSpent, or StoreUnavailable."""
        limit = self._config.max_calls_per_hour
        if limit is None or self._calls is None:
            return
        seconds = await self._calls.take(self.name, limit, seconds=_HOUR_S)
        if seconds > 0:
            raise QuotaSpent(
                f"{self.name!r} has made its max_calls_per_hour of {limit} calls.",
                retry_after=seconds,
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
        if not is_open or self._is_closed:
            return
        # An answer of a call that was in flight may have closed it while the last one slept.
        if self._recovery is not None:
            self._recovery.cancel()
        self._recovery = asyncio.create_task(self._recover())

    async def _recover(self) -> None:
        rest = self._rest_s
        while self._breaker.is_open:
            await asyncio.sleep(rest)
            rest = min(2 * rest, _LONGEST_REST_S)
            try:
                async with asyncio.timeout(_LONGEST_REST_S):
                    await self.check()
            except (TrustscaleError, TimeoutError):
                continue
            self._breaker.half_open()
