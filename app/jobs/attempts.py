"""One attempt at one job: begin, run under supervision, and exactly one end in the store."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from app.errors import TrustscaleError
from app.jobs.handlers import Handler, Interrupted, JobContext, Overtaken
from app.jobs.supervision import Cancelled, Supervisor
from app.stores.base import Job, JobState, JobStore, StoreUnavailable

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
        *,
        alive_s: Callable[[], float],
    ) -> None:
        self._jobs = jobs
        self._alive_s = alive_s
        self._supervisor = supervisor
        self._problem_of = problem_of

    async def run(self, job_id: str, handler: Handler) -> bool:
        """Run one attempt to its end. True if the job was given back and must be queued again.

        Raises StoreUnavailable if nothing could be begun.
        """
        insist = self._supervisor.insist
        job = await insist(
            lambda: self._jobs.begin(job_id, max_attempts=MOST_ATTEMPTS, alive_s=self._alive_s())
        )
        if job is None:
            return False
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
            return False
        except Cancelled:
            state = JobState.CANCELLED
        except Interrupted:
            log.info("Job %s goes back to the queue.", job.id)
            return await self._jobs.release(job.id, job.attempt)
        except StoreUnavailable as away:
            # Not the job's fault, a full disk for example: once the store works, it runs again.
            log.warning("Job %s stops for now: %s", job.id, away.detail)
            await insist(lambda: self._jobs.release(job.id, job.attempt))
            return False
        except Exception as failure:  # noqa: BLE001 - whatever a handler raises ends its job
            state, error = JobState.FAILED, self._told(job, failure)
        kept = await insist(
            lambda: self._jobs.finish(job.id, job.attempt, state, result=result, error=error)
        )
        if not kept:
            log.warning("Attempt %d of job %s ended too late.", job.attempt, job.id)
        return False

    def _told(self, job: Job, failure: Exception) -> dict[str, Any]:
        if isinstance(failure, TrustscaleError):
            log.warning("Job %s failed: %s", job.id, failure.detail)
        else:
            log.error("Job %s failed.", job.id, exc_info=failure)
        return problem(failure, self._problem_of)
