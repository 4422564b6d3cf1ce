"""Spreading the parts of one job over all job workers, and naming the part that kills them.

One attempt of the job is the coordinator: it asks for the units, keeps a bounded number of them
in the queue, sees in the store which are recorded, and reduces when all are. It does no work of
its own, so any worker has room for many. Units are messages like jobs (job and unit, nothing
more), keyed by both, so sending one again while the queue knows it does nothing; a coordinator
that takes over after a crash sends the missing ones and cannot double the others.

Bounding the units in the queue (`WINDOW`) keeps two calibrations side by side fair to each other,
and makes a cancelled one leave nothing behind.

A unit is recorded under the newest attempt of its job, whichever that is: its value depends on
the job and the unit alone, so the death of the coordinator does not waste what other workers do.
Only the coordinator publishes, and only under its own attempt.

The poison pair. A unit that kills its worker takes all units beside it down, and after three
deaths all of them look guilty. Therefore a unit that was started before and is not recorded is a
suspect, and runs alone in its process: the innocent ones end, and the guilty one is named.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from app.errors import (
    BadInput,
    CalibrationMismatch,
    ConfigError,
    Conflict,
    NotFound,
    TrustscaleError,
    UpscalerRejected,
)
from app.jobs.attempts import MOST_ATTEMPTS, ProblemOf, problem
from app.jobs.handlers import FanOut, Handler, Interrupted, JobContext, Overtaken
from app.jobs.observer import JobObserver
from app.jobs.supervision import Cancelled, Supervisor
from app.stores.base import Job, JobState, JobStore, StoreUnavailable, given_up
from app.telemetry.tracing import resumed, span

# Units of one job in the queue or running at a time: above the units that all workers of a fleet
# run at once, or they would wait for the coordinator.
WINDOW: Final = 64

# How often the coordinator looks at the store.
TICK_S: Final = 0.2

# Waits before a unit that failed in an orderly way is tried again.
UNIT_WAITS_S: Final = (1.0, 5.0)

# Errors that would come again.
PERMANENT: Final = (
    BadInput,
    CalibrationMismatch,
    ConfigError,
    Conflict,
    NotFound,
    UpscalerRejected,
)

log = logging.getLogger(__name__)

# Sends units of a job to the queue; those that it knows already are left alone.
Send = Callable[[str, Sequence[str]], Awaitable[None]]


class Turns:
    """Lets any number of units run side by side, or one suspect alone. Suspects go first."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._running = 0
        self._is_alone = False
        self._suspects = 0

    @asynccontextmanager
    async def take(self, *, alone: bool) -> AsyncIterator[None]:
        """Wait for the turn and hold it."""
        async with self._changed:
            self._suspects += alone
            try:
                await self._changed.wait_for(lambda: self._is_free(alone=alone))
            finally:
                self._suspects -= alone
                self._changed.notify_all()
            self._running += 1
            self._is_alone = alone
        try:
            yield
        finally:
            async with self._changed:
                self._running -= 1
                self._is_alone = False
                self._changed.notify_all()

    def _is_free(self, *, alone: bool) -> bool:
        if alone:
            return self._running == 0
        return not self._is_alone and not self._suspects


def coordinator(fan_out: FanOut, send: Send, *, resend_s: float) -> Handler:
    """The handler that has all units done and then reduces.

    Units that are still not recorded `resend_s` after they were sent are sent again: the queue
    may have lost them, and if it has not, nothing happens.
    """

    async def coordinate(job: Job, context: JobContext) -> str:
        units = await fan_out.units(job)
        clock = asyncio.get_running_loop().time
        sent: dict[str, float] = {}
        shown = -1
        while True:
            recorded = await _recorded(context)
            missing = [unit for unit in units if unit not in recorded]
            done = len(units) - len(missing)
            if done != shown:
                await context.progress(done, len(units), "pairs")
                shown = done
            if not missing:
                with span("reduce", {"trustscale.pairs": len(units)}):
                    return await fan_out.reduce(job, context)
            due = clock() - resend_s
            unsent = [unit for unit in missing[:WINDOW] if sent.get(unit, due) <= due]
            if unsent:
                await send(job.id, unsent)
                sent.update(dict.fromkeys(unsent, clock()))
            await asyncio.sleep(TICK_S)

    return coordinate


async def _recorded(context: JobContext) -> set[str]:
    """What is recorded; waits for a store away, because nothing is lost by waiting."""
    while True:
        try:
            return await context.recorded()
        except StoreUnavailable:
            await asyncio.sleep(1.0)


class Units:
    """Runs single units in this process."""

    def __init__(
        self,
        jobs: JobStore,
        supervisor: Supervisor,
        problem_of: ProblemOf,
        observer: JobObserver,
    ) -> None:
        self._jobs = jobs
        self._supervisor = supervisor
        self._problem_of = problem_of
        self._observer = observer
        self._turns = Turns()

    async def run(self, job_id: str, unit: str, fan_out: FanOut) -> bool:
        """Do one unit and record it; nothing if that is no longer wanted.

        True if it was interrupted and must be sent again. Raises StoreUnavailable.
        """
        insist = self._supervisor.insist
        starts = await insist(lambda: self._jobs.unit_starts(job_id, unit))
        async with self._turns.take(alone=starts > 0):
            if not await insist(lambda: self._jobs.start_unit(job_id, unit)):
                return False
            job = await insist(lambda: self._jobs.get(job_id))
            if starts >= MOST_ATTEMPTS:
                await self._fail(job_id, given_up(starts, [unit]))
                return False
            started, outcome = time.monotonic(), "failed"
            try:
                with span("unit", kind="consumer", parent=resumed(job.trace)):
                    value = await self._supervisor.run(job, self._tries(job, unit, fan_out))
                outcome = "ok"
            except (Cancelled, Overtaken):
                outcome = "stopped"
                return False
            except Interrupted:
                outcome = "interrupted"
                await self._jobs.release_unit(job_id, unit)
                return True
            except StoreUnavailable:
                # Not the unit's fault; the coordinator sends it again.
                outcome = "store_away"
                await insist(lambda: self._jobs.release_unit(job_id, unit))
                raise
            except Exception as error:  # noqa: BLE001 - whatever a unit raises ends its job
                await self._fail(job_id, self._told(job, unit, error))
                return False
            finally:
                self._observer.unit(outcome, time.monotonic() - started)
            await self._record(job, unit, value)
            return False

    async def _tries(self, job: Job, unit: str, fan_out: FanOut) -> bytes:
        for wait in (*UNIT_WAITS_S, None):
            try:
                return await fan_out.unit(job, unit)
            except PERMANENT:
                raise
            except Exception as error:
                if wait is None:
                    raise
                log.warning("%s of job %s failed, trying again: %s", unit, job.id, error)
                await asyncio.sleep(wait)
        raise AssertionError("unreachable: the last try raises")

    async def _record(self, job: Job, unit: str, value: bytes) -> None:
        await self._under_newest(
            job.id, lambda attempt: self._jobs.record(job.id, attempt, unit, value)
        )

    async def _fail(self, job_id: str, error: dict[str, Any]) -> None:
        await self._under_newest(
            job_id,
            lambda attempt: self._jobs.finish(job_id, attempt, JobState.FAILED, error=error),
        )

    async def _under_newest(self, job_id: str, write: Callable[[int], Awaitable[bool]]) -> None:
        """Write under the newest attempt of a job, whichever that is, while the job runs."""
        insist = self._supervisor.insist
        while True:
            job = await insist(lambda: self._jobs.get(job_id))
            attempt = job.attempt
            if job.state is not JobState.RUNNING or await insist(partial(write, attempt)):
                return

    def _told(self, job: Job, unit: str, error: Exception) -> dict[str, Any]:
        if isinstance(error, TrustscaleError):
            log.warning("%s of job %s failed: %s", unit, job.id, error.detail)
            reason = error.detail
        else:
            log.error("%s of job %s failed.", unit, job.id, exc_info=error)
            reason = "a mistake of the service; its log tells more"
        told = problem(error, self._problem_of)
        return {
            **told,
            "detail": f"{unit}: {reason}",
            "items": told.get("items") or [{"name": unit, "reason": reason}],
        }
