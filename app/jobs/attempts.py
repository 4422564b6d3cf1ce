"""One attempt at one job: begin, run under supervision, and exactly one end in the store."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from app.errors import NotFound, TrustscaleError
from app.jobs.handlers import Handler, Interrupted, JobContext, Overtaken
from app.jobs.observer import JobObserver
from app.jobs.supervision import Cancelled, Supervisor
from app.stores.base import Job, JobState, JobStore, StoreUnavailable
from app.telemetry.tracing import Span, resumed, span

ProblemOf = Callable[[Exception], dict[str, Any]]

# A job, or a part of one, that leaves its worker dead this often is given up.
MOST_ATTEMPTS: Final = 3

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
        context = JobContext(job, self._jobs, insist=insist)
        state, result, error = JobState.SUCCEEDED, None, None
        try:
            result = await self._supervisor.run(job, handler(job, context), context=context)
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

    def _told(self, job: Job, failure: Exception) -> dict[str, Any]:
        if isinstance(failure, TrustscaleError):
            log.warning("Job %s failed: %s", job.id, failure.detail)
        else:
            log.error("Job %s failed.", job.id, exc_info=failure)
        return problem(failure, self._problem_of)
