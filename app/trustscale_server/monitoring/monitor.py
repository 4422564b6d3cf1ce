"""What answered requests say about a calibration: a state, and its accumulation.

What the monitor knows under one calibration is a value, and bytes (≤ 30 kB), that all gateways
share. A request only appends to a queue in memory, which one task per process accumulates. Requests
are lost if the process dies, or while a store is away too long: independently of the images, so no
promise changes.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import KW_ONLY, dataclass, field
from typing import Final, TypeVar

import structlog

from trustscale_server.monitoring.state import (
    BadState,
    MonitorState,
    Observation,
    StateChange,
    dump_state,
    fold,
    load_state,
    reference,
)
from trustscale_server.platform.errors import TrustscaleError
from trustscale_server.platform.telemetry.metrics import Metrics
from trustscale_server.serving.encode import Encoded
from trustscale_server.stores.monitor_states import MonitorStore, Update

T = TypeVar("T")

# Requests in one change, for which other writers of SQLite wait: some 15 ms.
_AT_ONCE: Final = 200

log = structlog.get_logger(__name__)


@dataclass(eq=False, repr=False)
class Monitor:
    """Compares requests and labels with the calibration they were served from.

    uniform: numbers in [0, 1) that break ties.
    max_waiting: requests in all queues, one for each calibration.
    rest_s: pause after each round, to join requests in one write.
    drain_s: time of a stopping process for its last round.
    """

    store: MonitorStore
    metrics: Metrics = field(default_factory=Metrics)
    _: KW_ONLY
    uniform: Callable[[], float] = random.random
    max_waiting: int = 10_000
    rest_s: float = 0.2
    rest_after_failure_s: float = 5.0
    drain_s: float = 2.0
    _queues: dict[str, list[Observation]] = field(default_factory=dict, init=False)
    _wake: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    def note(self, calibration: str, seen: Observation) -> None:
        """Queue a request that this calibration answered; returns at once and raises nothing."""
        if self._waiting() >= self.max_waiting:
            self._lose(1, "the queue of the monitor is full")
            return
        self._queues.setdefault(calibration, []).append(seen)
        self._wake.set()

    def answered(self, answer: Encoded) -> None:
        """Queue an answered request, as an `Observer` of the service."""
        result, chosen = answer.result, answer.admitted.chosen
        if result is None or chosen.calibration is None:
            return  # without a mask nothing was promised
        of_group = chosen.calibration.subset(result.group)
        name = result.input_class.name if result.input_class else None
        subset = of_group.of_class(name)
        seen = Observation(
            at=time.time(),
            subset=f"{result.group or ''}/{name if subset is not of_group else ''}",
            reference=reference(subset),
            mean_log_sigma=answer.mean_log_sigma,
            trusted_fraction=result.trusted_fraction,
            digest=answer.admitted.decoded.digest,
            described=answer.admitted.decoded.features.described,
        )
        self.note(chosen.calibration.id, seen)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Accumulate during the body, and the rest at its end if the store is available."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            try:
                async with asyncio.timeout(self.drain_s):
                    async with self._lock:  # a round cut off would be folded twice
                        task.cancel()
                    await self.settle()
            except (TrustscaleError, TimeoutError) as error:
                self._lose(self._waiting(), str(error) or "no time left")
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def settle(self) -> None:
        """Accumulate everything that waits.

        Raises StoreUnavailable; the queue is kept then.
        """
        async with self._lock:
            while self._queues:
                calibration, queue = next(iter(self._queues.items()))
                batch = queue[:_AT_ONCE]
                await self._fold(calibration, batch)
                del queue[: len(batch)]  # others may have joined it
                if not queue:
                    del self._queues[calibration]

    async def known(self, calibration: str) -> MonitorState:
        """Return the present state of a calibration. Raises StoreUnavailable."""
        return _read(calibration, await self.store.load(calibration))

    async def change(
        self,
        calibration: str,
        work: Callable[[MonitorState], StateChange[T]],
        *,
        labels: str | None = None,
    ) -> T | None:
        """Change the state by `work`, which may run again; see `MonitorStore.change`."""

        def decide(stored: bytes | None) -> tuple[T, Update]:
            state, outcome, label = work(_read(calibration, stored))
            return outcome, Update(dump_state(state), label)

        return await self.store.change(calibration, decide, labels=labels)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            rest = self.rest_s
            try:
                await self.settle()
            except TrustscaleError as error:
                log.warning("monitor_failed", detail=error.detail, waiting=self._waiting())
                rest = self.rest_after_failure_s
                self._wake.set()
            except Exception:
                # A bug of the monitor: its cause must not be tried for ever.
                log.exception("monitor_failed")
                self._lose(self._waiting(), "a fault of the monitor")
                self._queues.clear()
            await asyncio.sleep(rest)

    async def _fold(self, calibration: str, batch: Sequence[Observation]) -> None:
        def work(state: MonitorState) -> StateChange[None]:
            for seen in batch:
                state = fold(state, seen, self.uniform())
            return StateChange(state, None)

        await self.change(calibration, work)

    def _waiting(self) -> int:
        return sum(map(len, self._queues.values()))

    def _lose(self, requests: int, reason: str) -> None:
        if requests:
            log.warning("monitor_dropped", requests=requests, reason=reason)
            self.metrics.count("monitor_dropped", by=requests)


def _read(calibration: str, stored: bytes | None) -> MonitorState:
    """A stored state; a new one in place of none, or of a damaged one."""
    if stored is None:
        return MonitorState()
    try:
        return load_state(stored)
    except BadState:
        log.exception("monitor_state_damaged", calibration=calibration)
        return MonitorState()
