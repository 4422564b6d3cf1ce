"""One attempt at one job: begin, run under supervision, and exactly one end in the store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from app.errors import NotFound, TrustscaleError
from app.jobs.handlers import Handler, Interrupted, JobContext, Overtaken
from app.jobs.observer import JobObserver
from app.jobs.supervision import Cancelled, Supervisor
from app.stores.base import Job, JobState, JobStore, StoreUnavailable, tried_in_vain
from app.telemetry.tracing import Span, resumed, span

ProblemOf = Callable[[Exception], dict[str, Any]]

# A job, or a part of one, that leaves its worker dead this often is given up.
MOST_ATTEMPTS: Final = 3

# Waits after an attempt that generated for nothing, since the store did not take its result; after
# the last attempt there is none. Together they outlast a restart of the store.
STORE_WAITS_S: Final = (5.0, 30.0)

# Such attempts are counted in the store like the starts of a part of the job with this name.
_STORING: Final = "storing"

log = logging.getLogger(__name__)


def problem(error: Exception, problem_of: ProblemOf) -> dict[str, Any]:
    """The problem document of an error; of an unexpected one it tells nothing of the inside."""
    if isinstance(error, TrustscaleError):
        return problem_of(error)
    return {
        "type": "about:blank",
        "title": "Internal error",
        "status": 500,
        "detail": "The job failed by a mistake of the service; its log tells more.",
    }


class _NotKept(Exception):
    """The result could not be stored, too often."""


class _Context(JobContext):
    """Notes whether samples have come: another attempt has to generate, and to pay, again."""

    has_generated = False

    async def progress(self, done: int, total: int, unit: str = "samples") -> None:
        """See `JobContext.progress`."""
        if unit == "samples" and done > 0:
            self.has_generated = True
        await super().progress(done, total, unit)


class Attempts:
    """Runs attempts at jobs. `run` says whether the job must be queued again."""

    def __init__(
        self,
        jobs: JobStore,
        supervisor: Supervisor,
        problem_of: ProblemOf,
        observer: JobObserver,
        *,
        alive_s: Callable[[], float],
    ) -> None:
        self._jobs = jobs
        self._alive_s = alive_s
        self._supervisor = supervisor
        self._problem_of = problem_of
        self._observer = observer

    async def run(self, job_id: str, handler: Handler) -> bool:
        """Run one attempt to its end. True if the job was given back and must be queued again.

        Raises StoreUnavailable if nothing could be begun.
        """
        insist = self._supervisor.insist
        was_running = await insist(lambda: self._is_running(job_id))
        job = await insist(
            lambda: self._jobs.begin(job_id, max_attempts=MOST_ATTEMPTS, alive_s=self._alive_s())
        )
        if job is None:
            return False
        facts = {"trustscale.job_kind": job.kind, "trustscale.attempt": job.attempt}
        with span("job attempt", facts, kind="consumer", parent=resumed(job.trace)) as traced:
            outcome, again = await self._attempt(job, handler, traced)
            traced.set({"trustscale.outcome": outcome})
        if was_running:
            self._observer.lost_lease(job.kind)
        self._observer.attempt(job.kind, outcome)
        return again

    async def _is_running(self, job_id: str) -> bool:
        """Whether the store takes the job for running: its attempt died, if a new one begins."""
        with suppress(NotFound):
            return (await self._jobs.get(job_id)).state is JobState.RUNNING
        return False

    async def _attempt(self, job: Job, handler: Handler, traced: Span) -> tuple[str, bool]:
        """What became of the attempt, and whether the job must be queued again."""
        insist = self._supervisor.insist
        context = _Context(job, self._jobs, insist=insist)
        state, result, error = JobState.SUCCEEDED, None, None
        try:
            result = await self._supervisor.run(
                job, self._handled(job, handler, context), context=context
            )
            if isinstance(result, JobState):
                state, result = result, None
        except Overtaken:
            log.info(
                "Attempt %d of job %s is over, by another one or by its end.", job.attempt, job.id
            )
            return "overtaken", False
        except Cancelled:
            state = JobState.CANCELLED
        except Interrupted:
            log.info("Job %s goes back to the queue.", job.id)
            return "interrupted", await self._jobs.release(job.id, job.attempt)
        except _NotKept as lost:
            state, error = JobState.FAILED, tried_in_vain(str(lost))
            log.warning("Job %s is given up: %s", job.id, lost)
            traced.fail(type(lost).__name__)
        except StoreUnavailable as away:
            # Not the job's fault, a full disk for example: once the store works, it runs again.
            log.warning("Job %s stops for now: %s", job.id, away.detail)
            await insist(lambda: self._jobs.release(job.id, job.attempt))
            return "store_away", False
        except Exception as failure:  # noqa: BLE001 - whatever a handler raises ends its job
            state, error = JobState.FAILED, self._told(job, failure)
            traced.fail(type(failure).__name__)
        kept = await insist(
            lambda: self._jobs.finish(job.id, job.attempt, state, result=result, error=error)
        )
        if not kept:
            log.warning("Attempt %d of job %s ended too late.", job.attempt, job.id)
            return "overtaken", False
        seconds = (datetime.now(UTC) - job.created_at).total_seconds()
        self._observer.ended(job.kind, state.value, seconds)
        return state.value, False

    async def _handled(self, job: Job, handler: Handler, context: _Context) -> str:
        """The handler's answer; slower and slower, and not for ever, where nothing can be stored.

        Raises _NotKept after the last attempt.
        """
        try:
            return await handler(job, context)
        except StoreUnavailable as away:
            if not context.has_generated:
                raise
            times = await self._supervisor.insist(lambda: self._jobs.start_unit(job.id, _STORING))
            most = len(STORE_WAITS_S) + 1
            if times >= most:
                raise _NotKept(
                    f"its result could not be stored {most} times. {away.detail}"
                ) from away
            log.warning("The result of job %s cannot be stored: %s", job.id, away.detail)
            # Waited for here, where the attempt is seen to be alive and can be cancelled.
            await asyncio.sleep(STORE_WAITS_S[max(times, 1) - 1])
            raise

    def _told(self, job: Job, failure: Exception) -> dict[str, Any]:
        if isinstance(failure, TrustscaleError):
            log.warning("Job %s failed: %s", job.id, failure.detail)
        else:
            log.error("Job %s failed.", job.id, exc_info=failure)
        return problem(failure, self._problem_of)
