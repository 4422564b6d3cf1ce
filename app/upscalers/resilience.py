"""Calls that survive a bad upstream, and an upstream that survives our calls.

::

    generate ──▶ breaker ──▶ spend guard ──▶ slots ──▶ time limit ──▶ inner.generate
        ▲                                                                  │
        └─────────── wait (Retry-After, else jitter), budget, same seed ◀──┘

A retry asks for the same seed, so a sample that was made twice is the same sample. Retries are
limited three ways: per call (`attempts`), per request (one more than its calls each, plus a few),
and by the breaker, which answers at once while the upstream is dead and lets a health check, not a
paid generation, find out when it is back. A call with patience (`Turn.patience_s`) waits for that.

What an adapter does not understand in an answer is the upscaler's error, whatever exception it
became: a safety net here makes it one.
"""

from __future__ import annotations

import asyncio
import random
import time
import traceback
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
from pydantic import BaseModel

from app.errors import TimedOut, TrustscaleError, UpscalerError, UpscalerUnavailable
from app.stores.base import CallStore
from app.telemetry.metrics import Metrics
from app.telemetry.tracing import span
from app.upscalers.base import RGB, Capabilities, Source, Upscaler, Witness
from app.upscalers.breaker import Breaker, CallLimit, MemoryCalls
from app.upscalers.config import RemoteConfig
from app.upscalers.remote.errors import (
    BreakerOpen,
    Busy,
    ProtocolError,
    QuotaSpent,
    asked_wait,
    is_for_operator,
    reason,
    retriable,
)
from app.upscalers.turns import Turn

# Full jitter, U(0, min(longest, base · 2ⁿ)): the usual servers send no Retry-After.
_BASE_S = 0.25
_LONGEST_REST_S = 60.0
_HOUR_S = 3600.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """How calls are spread over time; how hard to try is in the configuration.

    spare_retries: retries that a request has beyond one per call. With one per call alone, eight
        calls that fail at random with probability 0.2 run out in 0.15 % of the requests.
    longest_jitter_s: bound of the random pauses between tries.
    longest_wait_s: a server that asks for a longer wait ends the call, unless it has patience.
    breaker_failures: failures in a row that open the breaker; those within `breaker_blip_s` of
        each other count once.
    breaker_rest_s: first pause before the upstream's health is checked; doubles up to a minute.
    """

    spare_retries: int = 4
    longest_jitter_s: float = 8.0
    longest_wait_s: float = 60.0
    breaker_failures: int = 6
    breaker_blip_s: float = 1.0
    breaker_rest_s: float = 2.0


_USUAL = Pace()


class HealthFacts(BaseModel):
    """How a remote upscaler does, as the gateway that answers sees it; calls are those of all."""

    breaker_open: bool
    failures_in_a_row: int
    calls_last_hour: int | None
    max_calls_per_hour: int | None

    @classmethod
    async def of(cls, upscaler: Upscaler) -> HealthFacts | None:
        """Of an upscaler; None: it is none that could be away. Raises StoreUnavailable."""
        return await upscaler.health() if isinstance(upscaler, ResilientUpscaler) else None


class ResilientUpscaler:
    """`Upscaler` around a remote one, within the limits of its configuration.

    Tries are counted in `metrics`, which may be set at any time before the first call. `witness` is
    what samples are compared with; None: nothing.
    """

    def __init__(
        self,
        inner: Upscaler,
        config: RemoteConfig,
        metrics: Metrics | None = None,
        pace: Pace = _USUAL,
        witness: Witness | None = None,
        calls: CallStore | None = None,
    ) -> None:
        self.inner = inner
        self.witness = witness
        self.name, self.kind = inner.name, inner.kind
        self.metrics = metrics or Metrics()
        self._config = config
        self._pace = pace
        self._breaker = Breaker(
            pace.breaker_failures, pace.breaker_blip_s, changed=self._breaker_changed
        )
        self._calls = calls or MemoryCalls()
        self._slots = CallLimit(config.concurrency * len(config.addresses))
        self._recovery: asyncio.Task[None] | None = None
        # Retries left for each request, which is recognised by its source.
        self._budgets: weakref.WeakKeyDictionary[Source, int] = weakref.WeakKeyDictionary()

    @property
    def scale(self) -> int:
        return self.inner.scale

    @property
    def fingerprint(self) -> str:
        return self.inner.fingerprint

    @property
    def facts(self) -> Mapping[str, object]:
        """What the fingerprint covers, where the adapter tells."""
        facts: Mapping[str, object] = getattr(self.inner, "facts", {})
        return facts

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    @property
    def breaker_open(self) -> bool:
        """Whether it is called at all."""
        return self._breaker.is_open

    async def health(self) -> HealthFacts:
        """Whether it is called at all, and how much has been spent. Raises StoreUnavailable."""
        limit = self._config.max_calls_per_hour
        return HealthFacts(
            breaker_open=self._breaker.is_open,
            failures_in_a_row=self._breaker.failures,
            calls_last_hour=limit and await self._calls.count(self.name, seconds=_HOUR_S),
            max_calls_per_hour=limit,
        )

    async def generate(
        self, source: Source, seeds: Sequence[int], turn: Turn | None = None
    ) -> list[RGB]:
        """See `Upscaler.generate`; the last error is raised when trying has come to its end."""
        turn = turn or Turn()
        patient_until: float | None = None
        while True:
            try:
                return await self._tries(source, seeds, turn)
            except UpscalerUnavailable as error:
                now = asyncio.get_running_loop().time()
                patient_until = patient_until or now + turn.patience_s
                if is_for_operator(error) or now >= patient_until:
                    raise
                turn.give_back()
                asked = asked_wait(error)
                if asked is not None and asked > self._pace.longest_wait_s:
                    # It lives, and has said when it will have time.
                    if now + asked >= patient_until:
                        raise
                    await asyncio.sleep(_spread(asked))
                    continue
                self._breaker.open()
                if not await self._comes_back(patient_until):
                    raise

    async def _tries(self, source: Source, seeds: Sequence[int], turn: Turn) -> list[RGB]:
        """The samples after as many tries as the settings and the request's budget allow."""
        self._budgets[source] = self._budgets.get(source, self._pace.spare_retries) + 1
        tries = 0
        while True:
            tries += 1
            try:
                return await self._try(source, seeds, turn)
            except UpscalerError as error:
                seconds = self._wait(error, tries, turn)
                if seconds is None or self._budgets[source] < 1 or tries >= self._config.attempts:
                    raise
                why = reason(error)
            self._budgets[source] -= 1
            self.metrics.count("upstream_retries", self.name, why)
            log.info("tried_again", upscaler=self.name, reason=why, in_s=round(seconds, 2))
            turn.give_back()
            await asyncio.sleep(seconds)

    async def _comes_back(self, until: float) -> bool:
        """Whether the upstream answers a health check before this time of the loop's clock."""
        try:
            async with asyncio.timeout_at(until):
                return await self._breaker.closed.wait()
        except TimeoutError:
            return False

    async def check(self) -> None:
        """See `Upscaler.check`."""
        with self._understood():
            await self.inner.check()

    async def close(self) -> None:
        """See `Upscaler.close`."""
        if self._recovery is not None:
            self._recovery.cancel()
        await self.inner.close()

    def _wait(self, error: UpscalerError, tries: int, turn: Turn) -> float | None:
        """Seconds to wait before the next try; None: there is no point in another one."""
        if not retriable(error):
            return None
        asked = asked_wait(error)
        if asked is None:
            seconds = random.uniform(0, min(self._pace.longest_jitter_s, _BASE_S * 2**tries))  # noqa: S311 - jitter
        elif asked > self._pace.longest_wait_s:
            return None
        else:
            seconds = _spread(asked)
        return seconds if seconds < turn.remaining_s() else None

    async def _try(self, source: Source, seeds: Sequence[int], turn: Turn) -> list[RGB]:
        """One try, with everything counted."""
        self._admit()
        async with self._slots:
            self._admit()  # things may have changed while this call waited
            await self._spend()
            started = time.monotonic()
            outcome = "cancelled"
            try:
                with span("try", {"trustscale.upscaler": self.name}, kind="client"):
                    samples = await self._timed(source, seeds, turn)
                outcome = "ok"
            except UpscalerError as error:
                outcome = reason(error)
                self._count(error)
                raise
            finally:
                self.metrics.count("upstream_calls", self.name, outcome)
                if outcome != "cancelled":  # how long a client waits says nothing of the upstream
                    seconds = time.monotonic() - started
                    self.metrics.observe("upstream_call_seconds", seconds, self.name)
            self._slots.succeeded()
            self._breaker.succeeded()
            return samples

    async def _timed(self, source: Source, seeds: Sequence[int], turn: Turn) -> list[RGB]:
        limit = self._config.call_timeout_s
        try:
            async with turn.limited(limit):
                with self._understood():
                    return await self.inner.generate(source, seeds, turn)
        except TimeoutError as error:
            raise TimedOut(f"{self.name!r} gave no sample within {limit:g} s.") from error

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """Turn whatever else an adapter raises into an error of the upscaler."""
        try:
            yield
        except (TrustscaleError, TimeoutError):
            raise
        except Exception as error:
            # Neither text nor values: both may hold what the upstream sent, or the token.
            frame = traceback.extract_tb(error.__traceback__)[-1]
            log.error(  # noqa: TRY400 - for the same reason
                "answer_not_understood",
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
                retry_after=self._pace.breaker_rest_s,
            )

    async def _spend(self) -> None:
        """Count a call that starts now, in all processes.

        Raises:
            QuotaSpent: the spend limit is reached.
            StoreUnavailable: nobody knows.
        """
        limit = self._config.max_calls_per_hour
        if limit is None:
            return
        seconds = await self._calls.take(self.name, limit, seconds=_HOUR_S)
        if seconds > 0:
            raise QuotaSpent(
                f"{self.name!r} has made its max_calls_per_hour of {limit} calls.",
                retry_after=seconds,
            )

    def _count(self, error: UpscalerError) -> None:
        """A failure narrows the slots or moves the breaker, by what it says of the upstream."""
        if isinstance(error, Busy) and self._slots.in_flight > 1:
            self._slots.busy()  # our own doing: a server with fewer slots than configured
        elif isinstance(error, UpscalerUnavailable):
            self._breaker.failed()
        else:
            self._breaker.succeeded()  # it answered

    def _breaker_changed(self, is_open: bool) -> None:
        self.metrics.set("upstream_breaker_open", is_open, self.name)
        if is_open:
            self._recovery = asyncio.create_task(self._recover())

    async def _recover(self) -> None:
        """Ask for the upstream's health until it answers. No request waits for this."""
        rest = self._pace.breaker_rest_s
        while self._breaker.is_open:
            await asyncio.sleep(rest)
            rest = min(2 * rest, _LONGEST_REST_S)
            try:
                async with asyncio.timeout(_LONGEST_REST_S):
                    await self.check()
            except (UpscalerError, TimeoutError):
                continue
            self._breaker.half_open()


def _spread(asked: float) -> float:
    """A little more than the server asked for: all calls were told the same time."""
    return asked + random.uniform(0, 0.1 * asked + 0.05)  # noqa: S311 - jitter
