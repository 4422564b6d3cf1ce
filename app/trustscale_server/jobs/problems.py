"""The problems by which jobs fail; an unexpected error shows nothing of the inside."""

from __future__ import annotations

import logging
from typing import Any

from trustscale_server.jobs.handler import RetriesExhausted
from trustscale_server.platform.errors import TrustscaleError
from trustscale_server.platform.problems import problem_of

log = logging.getLogger(__name__)


def problem_for(job_id: str, error: Exception, task: str) -> dict[str, Any]:
    """Return the problem of an error of a job, or of its task; the log gets the whole error."""
    work = f"{task} of job {job_id}" if task else f"Job {job_id}"
    if isinstance(error, RetriesExhausted):
        log.warning("%s is given up: %s", work, error)
        return _given_up(str(error))
    if isinstance(error, TrustscaleError):
        log.warning("%s failed: %s", work, error.detail)
        problem, reason = problem_of(error), error.detail
    else:
        log.error("%s failed.", work, exc_info=error)
        reason = "an internal error, which the log of the service describes"
        problem = _fault("Internal error", f"The job failed by {reason}.")
    if not task:
        return problem
    items = problem.get("items") or [{"name": task, "reason": reason}]
    return {**problem, "detail": f"{task}: {reason}", "items": items}


def poison_problem(workers: int, task: str) -> dict[str, Any]:
    """Return the problem of a job at which workers died, perhaps at one task of several."""
    where = f" while working on {task}" if task else ""
    items = [{"name": task, "reason": "its worker died each time"}] if task else []
    reason = f"its worker died {workers} times{where}, at last with nothing beside it."
    return {**_given_up(reason), "items": items}


def _given_up(reason: str) -> dict[str, Any]:
    """The problem of a job that has used all its attempts."""
    return _fault("The job was given up", f"The job was given up: {reason}")


def _fault(title: str, detail: str) -> dict[str, Any]:
    """A problem that the request did not cause."""
    return {"type": "about:blank", "title": title, "status": 500, "detail": detail}
