"""One piece of work in this process: begun once, watched, ended, and blamed only for deaths.

A piece is a whole job, a pair of a calibration, or the putting together of its pairs. A worker that
dies leaves its name at what it was doing, and at nothing else (`JobStore.start`). So whoever begins
the piece again knows how many have died in the act of it:

- Names of workers that are alive do not count. One of them slept, and another took its work over.
- A piece at which a name was left is a suspect and runs alone in its process, before others. What
  was beside it when a worker died is innocent, ends, and is forgiven.
- After `MOST_DEATHS` the piece is given up, and named, unless workers die without it too: then
  something else kills them, and so many more deaths are allowed, at most as many again. It stands
  back for a while before, so that this can show.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
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
    UpscalerUnavailable,
)
from app.jobs.handlers import FanOut, GivenUp, Handler, Interrupted, JobContext, Later
from app.jobs.supervision import JobCancelled, Over, Supervisor
from app.problems import problem_of
from app.stores.base import Job, JobState, JobStatus, JobStore, StoreUnavailable
from app.telemetry.metrics import Metrics
from app.telemetry.tracing import fail, resumed, span
from app.upscalers.remote.errors import is_for_operator

Work = Callable[[Job, JobContext], Coroutine[Any, Any, Any]]
Announce = Callable[[JobStatus, JobState], Awaitable[None]]
OnEnd = Callable[[JobStatus], Awaitable[None]]
Living = Callable[[], Awaitable[set[str] | None]]

MOST_DEATHS: Final = 3

# Errors that would come again.
PERMANENT: Final = (
    BadInput,
    CalibrationMismatch,
    ConfigError,
    Conflict,
    NotFound,
    UpscalerRejected,
)

# Jobs whose requests are kept, each up to a megabyte: every pair of a calibration needs its own.
_LOADED: Final = 8

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited for what.

    Attributes:
        upscaler_s: for an upscaler that is away, per pair: nobody waits for the answer.
        unit_waits_s: before a pair is tried again that failed in an orderly way.
        store_waits_s: after a job has generated for nothing, since the store did not take its
            result; after the last time there is none. Together they outlast a restart of the store.
        answer_s: for the broker, which answers in milliseconds if it is well: whoever asks for
            readiness does not wait long.
        send_s: for the broker to take a job or units, which are sent again otherwise.
        verdict_s: for a worker to die without a piece that is about to be given up.
        cancel_again_s: for a loop that runs nothing to end, before it is cancelled again.
    """

    upscaler_s: float = 300.0
    unit_waits_s: tuple[float, ...] = (1.0, 5.0)
    store_waits_s: tuple[float, ...] = (5.0, 30.0)
    answer_s: float = 2.0
    send_s: float = 10.0
    verdict_s: float = 20.0
    cancel_again_s: float = 1.0


class Quarantine:
    """Lets any number of pieces run side by side, or one suspect alone.

    Suspects go first, and of them the one at which most have died: where processes are killed from
    outside again and again, it ends before it is hit once more, and is forgiven.
    """

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._running = 0
        self._is_alone = False
        self._suspects: list[int] = []

    @asynccontextmanager
    async def take(self, deaths: int) -> AsyncIterator[None]:
        """Wait for the turn of a piece and hold it; it is a suspect if there were deaths."""
        async with self._changed:
            if deaths:
                self._suspects.append(deaths)
            try:
                await self._changed.wait_for(lambda: self._is_free(deaths))
            finally:
                if deaths:
                    self._suspects.remove(deaths)
                self._changed.notify_all()
            self._running += 1
            self._is_alone = deaths > 0
        try:
            yield
        finally:
            async with self._changed:
                self._running -= 1
                self._is_alone = False
                self._changed.notify_all()

    def _is_free(self, deaths: int) -> bool:
        if deaths:
            return self._running == 0 and deaths == max(self._suspects)
        return not self._is_alone and not self._suspects


@dataclass(eq=False, repr=False, kw_only=True)
class Acts:
    """Does pieces of work in this process, as `owner`; `living` names the workers that are alive.

    Its methods answer after how many seconds the piece must be queued again, or None. They raise
    nothing but StoreUnavailable. `announce` is told of the end of a job before it is stored,
    `on_end` after that.
    """

    jobs: JobStore
    supervisor: Supervisor
    metrics: Metrics
    owner: str
    living: Living
    patience: Patience
    announce: Announce
    on_end: OnEnd
    _turns: Quarantine = field(default_factory=Quarantine, init=False)
    _loaded: OrderedDict[str, Job] = field(default_factory=OrderedDict, init=False)
    _in_vain: Counter[str] = field(default_factory=Counter, init=False)
    # Names that others had left, also at pieces that are done now.
    _met: set[str] = field(default_factory=set, init=False)

    async def whole(self, job_id: str, handler: Handler) -> float | None:
        """Do a job in one piece, or the last piece of it, and end it."""
        async with self._act(job_id, "") as job:
            if job is None:
                return None
            facts = {"trustscale.job_kind": job.kind}
            with span("job attempt", facts, kind="consumer", parent=resumed(job.trace)) as traced:
                outcome, again_s = await self._ended(job, handler)
                traced.set_attributes({"trustscale.outcome": outcome})
                if outcome == JobState.FAILED:
                    fail(traced, outcome)
        self.metrics.count("job_attempts", job.kind, outcome)
        return again_s

    async def one(self, job_id: str, unit: str, fan_out: FanOut) -> float | None:
        """Do one pair of a job and record it."""
        async with self._act(job_id, unit) as job:
            if job is None:
                return None
            started = time.monotonic()
            with span("unit", kind="consumer", parent=resumed(job.trace)):
                outcome = await self._recorded(job, unit, fan_out)
            self.metrics.count("job_units", outcome)
            if outcome == "ok":
                self.metrics.observe("job_unit_seconds", time.monotonic() - started)
        return 0.0 if outcome == "interrupted" else None

    async def load(self, job_id: str) -> Job:
        """A job with its request, which does not change: it is read once. Raises NotFound."""
        if job_id not in self._loaded:
            self._loaded[job_id] = await self._insist(lambda: self.jobs.load(job_id))
            while len(self._loaded) > _LOADED:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(job_id)
        return self._loaded[job_id]

    async def begin(self, job_id: str, unit: str | None) -> JobStatus | None:
        """`JobStore.start`; who ended a job that has ended, or was to cancel it, may be dead."""
        status: JobStatus | None = await self._insist(
            lambda: self.jobs.start(job_id, unit, self.owner)
        )
        if status is None:
            with suppress(NotFound, StoreUnavailable):
                job = await self.jobs.get(job_id)
                if job.state.is_final:
                    await self.on_end(job)
        return status

    @asynccontextmanager
    async def _act(self, job_id: str, unit: str) -> AsyncIterator[Job | None]:
        """Hold the turn of a piece and be in the act; None if there is nothing to do."""
        others = await self._insist(lambda: self.jobs.acts(job_id, unit)) - {self.owner}
        self._met |= others
        dead = await self._killed_by(job_id, unit) if len(others) >= MOST_DEATHS else 0
        async with self._turns.take(len(others)):
            if await self.begin(job_id, unit) is None:
                yield None
                return
            job = await self.load(job_id)
            if others:
                self.metrics.count("job_lost_leases", job.kind)
            if dead:
                error = _died(dead, unit)
                log.warning("Job %s: %s", job_id, error["detail"])
                await self._insist(lambda: self._finish(job, JobState.FAILED, error=error))
                yield None
                return
            yield job

    async def _killed_by(self, job_id: str, unit: str) -> int:
        """How many the piece has killed, for all that is known; 0 if it may be innocent."""
        clock = asyncio.get_running_loop().time
        end = clock() + self.patience.verdict_s
        while True:
            living = await self.living()
            if living is None:
                return 0
            living |= {self.owner}
            dead = await self._insist(lambda: self.jobs.acts(job_id, unit)) - living
            elsewhere = len(await self._seen() - living - dead)
            if len(dead) - min(elsewhere, MOST_DEATHS) < MOST_DEATHS:
                return 0
            if clock() >= end:
                return len(dead)
            await asyncio.sleep(min(1.0, self.patience.verdict_s / 4))

    async def _seen(self) -> set[str]:
        """All workers that have left their names somewhere, as far as is known here."""
        seen: set[str] = set()
        for job in await self._insist(self.jobs.unfinished):
            if job.state is JobState.RUNNING:
                seen |= await self._insist(partial(self.jobs.acts, job.id))
        return seen | self._met  # last: names that went meanwhile have been met

    async def _ended(self, job: Job, handler: Handler) -> tuple[str, float | None]:
        """Run the handler and end the job as it says: the outcome, and when it comes again."""
        try:
            result = await self.supervisor.run(job.id, self._stored(job, handler))
        except Exception as error:  # noqa: BLE001 - whatever a handler raises ends its job
            again_s = error.seconds if isinstance(error, Interrupted) else None
            return await self.without_result(job, error), again_s
        state = result if isinstance(result, JobState) else JobState.SUCCEEDED
        link = None if isinstance(result, JobState) else result
        kept = await self._insist(lambda: self._finish(job, state, result=link))
        return state.value if kept else "overtaken", None

    async def _stored(self, job: Job, handler: Handler) -> str:
        """The handler's answer; slower and slower, and not for ever, where nothing can be stored.

        Raises GivenUp after the last time.
        """
        context = JobContext(job.id, self.jobs)
        try:
            return await handler(job, context)
        except StoreUnavailable as away:
            if not context.has_generated:
                raise
            waits = self.patience.store_waits_s
            self._in_vain[job.id] += 1
            times = self._in_vain[job.id]
            if times > len(waits):
                reason = f"its result could not be stored {times} times. {away.detail}"
                raise GivenUp(reason) from away
            log.warning("The result of job %s cannot be stored: %s", job.id, away.detail)
            # Waited for here, where the job can be cancelled.
            await asyncio.sleep(waits[times - 1])
            raise

    async def _recorded(self, job: Job, unit: str, fan_out: FanOut) -> str:
        """Do a pair and record it: the outcome."""
        try:
            value = await self.supervisor.run(job.id, self._tried(job, unit, fan_out))
        except Exception as error:  # noqa: BLE001 - whatever a unit raises ends its job
            outcome = await self.without_result(job, error, unit)
            return "stopped" if outcome in {JobState.CANCELLED, "overtaken"} else outcome
        await self._insist(lambda: self.jobs.record(job.id, unit, value))
        return "ok"

    async def _tried(self, job: Job, unit: str, fan_out: FanOut) -> bytes:
        """The value of a pair, tried again where that may help."""
        clock = asyncio.get_running_loop().time
        end, waits = clock() + self.patience.upscaler_s, iter(self.patience.unit_waits_s)
        while True:
            try:
                return await fan_out.unit(job, unit)
            except (*PERMANENT, StoreUnavailable):
                raise
            except Exception as error:
                if is_for_operator(error):
                    raise
                pause = next(waits, None)
                if isinstance(error, UpscalerUnavailable) and clock() < end:
                    pause = max(pause or 1.0, error.retry_after)
                if pause is None:
                    raise
                log.warning("%s of job %s failed, trying again: %s", unit, job.id, error)
                await asyncio.sleep(pause)

    async def without_result(self, job: Job, error: Exception, unit: str = "") -> str:
        """End a job, or give it back, since a piece of it has no result: the outcome."""
        if isinstance(error, JobCancelled):
            kept = await self._insist(lambda: self._finish(job, JobState.CANCELLED, unit=unit))
            return JobState.CANCELLED.value if kept else "overtaken"
        if isinstance(error, Over | Interrupted | StoreUnavailable):
            if isinstance(error, StoreUnavailable):
                # Not the fault of the work, a full disk for example: once the store works, it runs.
                log.warning("Job %s stops for now: %s", job.id, error.detail)
            else:
                log.info("Job %s stops here: %s", job.id, type(error).__name__)
            await self._insist(lambda: self.jobs.end(job.id, unit, self.owner))
            outcomes = {Over: "overtaken", Interrupted: "interrupted", Later: "later"}
            return outcomes.get(type(error), "store_away")
        problem = self._told(job, error, unit)
        await self._insist(lambda: self._finish(job, JobState.FAILED, error=problem))
        return JobState.FAILED.value

    async def _finish(self, job: Job, state: JobState, *, unit: str = "", **end: Any) -> bool:
        """End a job, and tell whoever wants to know; whether this is the end that it has."""
        await self.announce(job, state)
        kept = await self.jobs.finish(job.id, state, **end)
        # A cancellation is seen by every unit under way; the job as a whole counts it.
        if kept and not (unit and state is JobState.CANCELLED):
            seconds = (datetime.now(UTC) - job.created_at).total_seconds()
            self.metrics.observe("job_seconds", seconds, job.kind, state.value)
        if kept and state.is_final:
            with suppress(StoreUnavailable):  # the sweep makes good for it
                await self.on_end(job.model_copy(update={"state": state}))
        return kept

    async def _insist(self, call: Callable[[], Awaitable[Any]]) -> Any:
        return await self.supervisor.insist(call)

    def _told(self, job: Job, error: Exception, unit: str) -> dict[str, Any]:
        """The problem of an error; of an unexpected one it tells nothing of the inside."""
        what = f"{unit} of job {job.id}" if unit else f"Job {job.id}"
        if isinstance(error, GivenUp):
            log.warning("%s is given up: %s", what, error)
            return _given_up(str(error))
        if isinstance(error, TrustscaleError):
            log.warning("%s failed: %s", what, error.detail)
            told, reason = problem_of(error), error.detail
        else:
            log.error("%s failed.", what, exc_info=error)
            reason = "a mistake of the service; its log tells more"
            told = _fault("Internal error", f"The job failed by {reason}.")
        if not unit:
            return told
        items = told.get("items") or [{"name": unit, "reason": reason}]
        return {**told, "detail": f"{unit}: {reason}", "items": items}


def _died(times: int, unit: str) -> dict[str, Any]:
    """The problem of a job whose worker died every time, at the unit if it is known."""
    named = f" while working on {unit}" if unit else ""
    items = [{"name": unit, "reason": "its worker died each time"}] if unit else []
    return {**_given_up(f"its worker died {times} times{named}."), "items": items}


def _given_up(reason: str) -> dict[str, Any]:
    """The problem of a job that was tried as often as it may be."""
    return _fault("The job was given up", f"The job was given up: {reason}")


def _fault(title: str, detail: str) -> dict[str, Any]:
    """The problem of a job that failed, but not by what was asked for."""
    return {"type": "about:blank", "title": title, "status": 500, "detail": detail}
