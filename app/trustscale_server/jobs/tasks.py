"""Runs jobs and their tasks, and decides what an error means. `jobs/__init__.py` has the rules."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import structlog

from trustscale_server.jobs.exclusive import ExclusiveLock
from trustscale_server.jobs.handler import FanOut, Handler, JobContext, RetriesExhausted, RetryLater
from trustscale_server.jobs.problems import poison_problem, problem_for
from trustscale_server.jobs.supervisor import (
    Interrupted,
    JobCancelled,
    JobEndedElsewhere,
    Supervisor,
)
from trustscale_server.platform.errors import (
    BadInput,
    CalibrationMismatch,
    ConfigError,
    Conflict,
    NotFound,
    TimedOut,
    UpscalerRejected,
    UpscalerUnavailable,
)
from trustscale_server.platform.retry import retried
from trustscale_server.platform.telemetry.metrics import Metrics
from trustscale_server.platform.telemetry.traces import fail, resumed, span
from trustscale_server.stores.documents import StoreUnavailable
from trustscale_server.stores.job_status import Job, JobState, JobStatus
from trustscale_server.stores.jobs import JobStore
from trustscale_server.upscalers.failures import needs_operator

log = logging.getLogger(__name__)


_Announce = Callable[[JobStatus, JobState], Awaitable[None]]
OnEnd = Callable[[JobStatus], Awaitable[None]]
_Living = Callable[[], Awaitable[set[str] | None]]

_WHOLE: Final = ""
"""The task that is a whole job, or that combines its tasks."""

# After DEATHS a task runs alone, after DEATHS_ALONE it is poison: one could be a kill from outside.
DEATHS: Final = 2
DEATHS_ALONE: Final = 4

# Errors that would come again at once.
_PERMANENT: Final = (
    BadInput,
    CalibrationMismatch,
    ConfigError,
    Conflict,
    NotFound,
    UpscalerRejected,
)

events = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TaskRetryPolicy:
    """How often a task is tried, and how long it waits for an unavailable dependency.

    The worst case of a pair: `len(errors_s) + 1` tries per run, and a run after about 10, 40, 160,
    … s, at most `max_pause_s` apart, until `away_s` have passed without progress.

    Attributes:
        away_s: a job fails when a dependency has been away for this long.
        first_s, max_pause_s: of the pauses; each is three times the wait so far.
        errors_s: pauses before a pair is retried after another error.
    """

    away_s: float = 600.0
    first_s: float = 10.0
    max_pause_s: float = 300.0
    errors_s: tuple[float, ...] = (1.0, 5.0)

    def pause(self, waited_s: float) -> float:
        """Return the seconds until the next run."""
        return min(max(self.first_s, 3 * waited_s), self.max_pause_s)


class Ending(NamedTuple):
    """How an attempt ended, as it is counted, and in how many seconds there is another, if any."""

    outcome: str
    again_s: float | None = None


_OVERTAKEN: Final = Ending("overtaken")
"""Somebody else has ended the job since."""


@dataclass(eq=False, repr=False, kw_only=True)
class TaskRunner:
    """Runs tasks in this process, as `owner`; `living` names the living workers.

    Methods return the seconds until the task must be queued again, or None, and raise only
    StoreUnavailable. `announce` is called before an end is stored, `on_end` after.
    """

    jobs: JobStore
    supervisor: Supervisor
    metrics: Metrics
    owner: str
    living: _Living
    policy: TaskRetryPolicy
    announce: _Announce
    on_end: OnEnd
    _turns: ExclusiveLock = field(default_factory=ExclusiveLock, init=False)
    _requests: OrderedDict[str, dict[str, Any]] = field(default_factory=OrderedDict, init=False)

    async def run_job(self, job_id: str, handler: Handler) -> float | None:
        """Run a job as one task, or its last task, and end it."""
        async with self._attempt(job_id, _WHOLE) as job:
            if job is None:
                return None
            attributes = {"trustscale.job_kind": job.kind}
            with span(
                "job attempt", attributes, kind="consumer", parent=resumed(job.trace)
            ) as traced:
                ending = await self._end_job(job, handler)
                traced.set_attributes({"trustscale.outcome": ending.outcome})
                if ending.outcome == JobState.FAILED:
                    fail(traced, ending.outcome)
        self.metrics.count("job_attempts", job.kind, ending.outcome)
        return ending.again_s

    async def run_task(self, job_id: str, task: str, fan_out: FanOut) -> float | None:
        """Run one task of a job and record it."""
        async with self._attempt(job_id, task) as job:
            if job is None:
                return None
            started = time.monotonic()
            with span("task", kind="consumer", parent=resumed(job.trace)):
                ending = await self._record_task(job, task, fan_out)
            self.metrics.count("calibration_pairs", ending.outcome)
            if ending.outcome == "ok":
                self.metrics.observe("job_task_seconds", time.monotonic() - started)
        return ending.again_s

    async def begin(self, job_id: str, task: str | None, *, alone: bool = False) -> Job | None:
        """Start a task; return None if there is nothing to do.

        `on_end` is called again for an ended job, since the worker that ended it may have died.
        """
        status: JobStatus | None = await self._insist(
            lambda: self.jobs.start(job_id, task, self.owner, alone=alone)
        )
        if status is None:
            with suppress(NotFound, StoreUnavailable):
                job = await self.jobs.get(job_id)
                if job.state.is_final:
                    await self.on_end(job)
            return None
        with suppress(NotFound):  # another process ended it since
            return Job(**status.model_dump(), request=await self._request(job_id))
        return None

    @asynccontextmanager
    async def _attempt(self, job_id: str, task: str) -> AsyncIterator[Job | None]:
        """Hold the turn of a task, with an attempt; None if there is nothing to do."""
        left = await self._insist(lambda: self.jobs.attempts(job_id, task))
        living = await self.living() if left else set()
        # A living owner only slept. If the living are unknown, no death counts.
        dead = (
            [] if living is None else [attempt for attempt in left if attempt.owner not in living]
        )
        dead = [attempt for attempt in dead if attempt.owner != self.owner]
        is_poison = sum(attempt.alone for attempt in dead) >= DEATHS_ALONE
        alone = len(dead) >= DEATHS and not is_poison
        async with self._turns.take(alone=alone):
            job = await self.begin(job_id, task, alone=alone)
            if job is not None and dead:
                self.metrics.count("job_lost_leases", job.kind)
            if job is not None and is_poison:
                problem = poison_problem(len({attempt.owner for attempt in dead}), task)
                log.warning("Job %s: %s", job_id, problem["detail"])
                poisoned = job
                await self._insist(lambda: self._finish(poisoned, JobState.FAILED, error=problem))
                job = None
            yield job

    async def _request(self, job_id: str) -> dict[str, Any]:
        if job_id not in self._requests:
            self._requests[job_id] = await self._insist(lambda: self.jobs.request(job_id))
            while len(self._requests) > 8:  # of up to a megabyte each
                self._requests.popitem(last=False)
        self._requests.move_to_end(job_id)
        return self._requests[job_id]

    async def _end_job(self, job: Job, handler: Handler) -> Ending:
        """Run the handler and end the job."""
        context = JobContext(job.id, self.jobs)
        try:
            result = await self.supervisor.run(job.id, handler(job, context))
        except Exception as error:  # noqa: BLE001 - whatever a handler raises ends its job
            return await self.without_result(job, error, is_paid=context.has_generated)
        state = result if isinstance(result, JobState) else JobState.SUCCEEDED
        link = None if isinstance(result, JobState) else result
        ended = await self._insist(
            lambda: self._finish(job, state, attributes=context.attributes, result=link)
        )
        return Ending(state.value) if ended else _OVERTAKEN

    async def _record_task(self, job: Job, task: str, fan_out: FanOut) -> Ending:
        """Run a task and record its result."""
        try:
            value = await self.supervisor.run(job.id, self._tried(job, task, fan_out))
        except Exception as error:  # noqa: BLE001 - whatever a task raises ends its job
            ending = await self.without_result(job, error, task)
            is_stopped = ending.outcome in {JobState.CANCELLED, _OVERTAKEN.outcome}
            return Ending("stopped") if is_stopped else ending
        await self._insist(lambda: self.jobs.record(job.id, task, value))
        await fan_out.after_recording(job, task)
        return Ending("ok")

    async def _tried(self, job: Job, task: str, fan_out: FanOut) -> bytes:
        def pause(error: Exception, tries: int) -> float | None:
            is_final = isinstance(error, (*_PERMANENT, StoreUnavailable, UpscalerUnavailable))
            if is_final or needs_operator(error) or tries > len(self.policy.errors_s):
                return None
            return self.policy.errors_s[tries - 1]

        return await retried(
            lambda: fan_out.run(job, task),
            Exception,
            pause,
            before_pause=lambda error, _: log.warning(
                "%s of job %s failed, trying again: %s", task, job.id, error
            ),
        )

    async def without_result(
        self, job: Job, error: Exception, task: str = _WHOLE, *, is_paid: bool = False
    ) -> Ending:
        """End a job, or requeue a task without result.

        is_paid: whether samples were generated, which the next run generates again.
        """
        if isinstance(error, JobCancelled):
            ended = await self._insist(lambda: self._finish(job, JobState.CANCELLED, task=task))
            return Ending(JobState.CANCELLED.value) if ended else _OVERTAKEN
        if isinstance(error, JobEndedElsewhere | Interrupted):
            log.info("Job %s stops in this process: %s", job.id, type(error).__name__)
            await self._insist(lambda: self.jobs.end(job.id, task))
            if isinstance(error, JobEndedElsewhere):
                return _OVERTAKEN
            outcome = "later" if isinstance(error, RetryLater) else "interrupted"
            return Ending(outcome, error.seconds)
        if isinstance(error, StoreUnavailable) and not is_paid:
            # A full disk, for example: it runs once the store works.
            log.warning("Job %s stops until the store is available: %s", job.id, error.detail)
            await self._insist(lambda: self.jobs.end(job.id, task))
            return Ending("store_away", self.policy.first_s)
        # A single upscaling that timed out would time out again.
        is_final = needs_operator(error) or (isinstance(error, TimedOut) and not task)
        if isinstance(error, StoreUnavailable | UpscalerUnavailable) and not is_final:
            now = await self._insist(self.jobs.now)
            waited_s = (now - (job.dependency_down_since or now)).total_seconds()
            if waited_s < self.policy.away_s:
                log.warning("Job %s waits for a dependency: %s", job.id, error.detail)
                await self._insist(lambda: self.jobs.end(job.id, task, away=True))
                return Ending("away", max(error.retry_after, self.policy.pause(waited_s)))
            if isinstance(error, StoreUnavailable):
                error = RetriesExhausted(f"its result could not be stored for {waited_s:.0f} s.")
        problem = problem_for(job.id, error, task)
        await self._insist(lambda: self._finish(job, JobState.FAILED, error=problem))
        return Ending(JobState.FAILED.value)

    async def _finish(
        self,
        job: Job,
        state: JobState,
        *,
        task: str = _WHOLE,
        attributes: dict[str, Any] | None = None,
        **end: Any,
    ) -> bool:
        """End a job, and announce it; return whether this is its end. The log gets `attributes`."""
        await self.announce(job, state)
        ended = await self.jobs.finish(job.id, state, **end)
        # Every running task sees a cancellation; only the job as a whole is counted.
        if ended and not (task and state is JobState.CANCELLED):
            seconds = (datetime.now(UTC) - job.created_at).total_seconds()
            self.metrics.observe("job_seconds", seconds, job.kind, state.value)
            wait_s = None
            if job.started_at is not None:
                wait_s = (job.started_at - job.created_at).total_seconds()
                self.metrics.observe("job_wait_seconds", wait_s, job.kind)
            events.info(
                "job_ended",
                job=job.id,
                kind=job.kind,
                state=state.value,
                upscaler=job.about.upscaler,
                key=job.about.key,
                wait_s=wait_s,
                seconds=seconds,
                **(attributes or {}),
            )
        if ended and state.is_final:
            with suppress(StoreUnavailable):  # the sweep makes up for it
                await self.on_end(job.model_copy(update={"state": state}))
        return ended

    async def _insist(self, call: Callable[[], Awaitable[Any]]) -> Any:
        return await self.supervisor.insist(call)
