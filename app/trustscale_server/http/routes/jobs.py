"""Jobs: state, progress as server-sent events, cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import datetime
from typing import Annotated, get_args

from fastapi import APIRouter, Depends, Form
from fastapi.responses import JSONResponse, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field

from trustscale_server.http.openapi import file_response
from trustscale_server.http.problems import Problem, problem_responses
from trustscale_server.http.state import AdminDep, ClientDep, ClientRoute, State, StateDep
from trustscale_server.platform.errors import NotFound
from trustscale_server.serving.job import DRAFT
from trustscale_server.stores.base import CallsMade, JobKind, JobState, JobStatus, Progress

Webhook = Annotated[
    str | None,
    Form(
        max_length=2000,
        description="URL to notify of the end of the job, on a host that the service allows.",
    ),
]

router = APIRouter(
    route_class=ClientRoute, tags=["jobs"], responses=problem_responses("bad-request")
)


class JobOut(BaseModel):
    """A job as clients see it.

    state: expired once the result is gone. result: a link, once it has succeeded. warnings: about
    the pairs of a calibration.
    """

    id: str
    kind: JobKind
    state: JobState
    progress: Progress
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    result: str | None
    estimate_s: float | None = Field(
        None,
        description="How long the samples will take once it runs, in seconds; null if that "
        "is not known.",
    )
    calls: int | None = Field(None, description="Calibration only: the most calls of the upscaler.")
    price: float | None = Field(
        None,
        description="Calibration only: the price of these calls, if that of one is configured.",
    )
    calls_made: CallsMade | None = Field(
        None,
        description="Calibration only: what became of the calls of a remote upscaler so far; null "
        "before the first.",
    )
    width: int | None = Field(
        None, description="Upscaling only: the width of the picture that is made."
    )
    height: int | None = None
    dependency_down_since: datetime | None = Field(
        None,
        description="Since when a dependency has been unavailable, which is retried; null "
        "if all are available.",
    )
    draft: str | None = Field(
        None,
        description="Upscaling only, while it runs: the first sample, reduced; what is not made "
        "yet is transparent. Nothing of it is measured yet, so nothing is trusted. In the first "
        "seconds it may be missing.",
    )
    needs_review: bool | None = Field(
        None,
        description="Upscaling only, once it has succeeded: whether somebody must look at the "
        "picture before it goes out (`review` of the result); null: not known.",
    )
    error: Problem | None
    warnings: list[str] = Field(default_factory=list)

    @classmethod
    def from_job(
        cls, job: JobStatus, made: CallsMade | None = None, path_prefix: str = ""
    ) -> JobOut:
        """Return the public part of a stored job, with the calls that it made."""
        names = ("estimate_s", "calls", "price", "width", "height")
        return cls(
            **job.model_dump(include=set(cls.model_fields)),
            **{name: job.about.get(name) for name in names},
            calls_made=made,
            needs_review=job.needs_review,
            draft=f"{path_prefix}/v1/jobs/{job.id}/{DRAFT}" if _is_drafted(job) else None,
            warnings=(job.about.get("warnings") or "").splitlines(),
        )


def _is_drafted(job: JobStatus) -> bool:
    """Whether the job may show a first sample, as far as it is made, and has no result yet."""
    is_running = job.kind == "upscale" and job.state is JobState.RUNNING
    return is_running and job.progress.done > 0


async def _job(job_id: str, state: StateDep, _: ClientDep) -> JobStatus:
    return await state.stores.jobs.get(job_id)


async def visible_job(state: State, job: JobStatus) -> JobOut:
    """Show a job as clients see it; if its result was removed, it is `expired` without a link."""
    is_made = job.kind == "upscale" and job.state is JobState.SUCCEEDED and job.result
    if is_made and not await state.stores.results.has(str(job.result).rpartition("/")[2]):
        job = job.model_copy(update={"state": JobState.EXPIRED, "result": None})
    counted = [job.id] if job.kind == "calibration" else []
    made = (*await state.stores.usage.calls_of(*counted), None)
    return JobOut.from_job(job, made[0], state.settings.path_prefix)


_JobDep = Annotated[JobStatus, Depends(_job)]

_PROBLEMS = problem_responses("not-found", "unauthorized")


@router.get("/v1/jobs/{job_id}", responses=_PROBLEMS)
async def get_job(job: _JobDep, state: StateDep) -> JobOut:
    """Read the state of a job."""
    return await visible_job(state, job)


@router.get("/v1/jobs/{job_id}/events", response_class=EventSourceResponse, responses=_PROBLEMS)
async def watch_job(job: _JobDep, state: StateDep) -> AsyncIterator[ServerSentEvent]:
    """Follow a job until it ends, or until the server stops.

    The events are its state now and after every change.
    """
    async with (
        aclosing(state.stores.jobs.watch(job.id)) as watched,
        aclosing(_until(state.stopping, watched)) as states,
    ):
        async for current in states:
            details = await visible_job(state, current)
            yield ServerSentEvent(data=details.model_dump(mode="json"), event="job")


@router.get(
    f"/v1/jobs/{{job_id}}/{DRAFT}",
    response_class=Response,
    responses={**file_response("image/webp"), **_PROBLEMS},
)
async def get_draft(job: _JobDep, state: StateDep) -> Response:
    """Fetch the first sample of a running upscaling job, reduced, as far as it is made."""
    if not _is_drafted(job):
        raise NotFound(f"The job {job.id} has no draft now.")
    data = await state.stores.blobs.get(job.id, DRAFT)
    return Response(data, media_type="image/webp", headers={"Cache-Control": "no-store"})


@router.delete("/v1/jobs/{job_id}", responses=_PROBLEMS)
async def cancel_job(job: _JobDep, state: StateDep) -> JobOut:
    """Cancel a job.

    A queued job ends at once, a running one within seconds; one that has ended stays as it is.
    """
    return await visible_job(state, await state.queue.cancel(job.id))


@router.get(
    "/v1/admin/jobs", tags=["admin"], responses=problem_responses("unauthorized", "forbidden")
)
async def list_jobs(state: StateDep, _: AdminDep) -> list[JobOut]:
    """List the jobs that have not ended, the newest first."""
    pending = [job for kind in get_args(JobKind) for job in await state.stores.jobs.pending(kind)]
    pending.sort(key=lambda job: job.created_at, reverse=True)
    made = await state.stores.usage.calls_of(*(job.id for job in pending))
    prefix = state.settings.path_prefix
    return [JobOut.from_job(job, calls, prefix) for job, calls in zip(pending, made, strict=True)]


async def _until(
    stopping: asyncio.Event, states: AsyncGenerator[JobStatus, None]
) -> AsyncGenerator[JobStatus, None]:
    """Yield the states of a job until the server stops, which an open stream would delay."""
    stopped = asyncio.create_task(stopping.wait())
    try:
        while True:
            coming = asyncio.ensure_future(anext(states, None))
            try:
                await asyncio.wait({coming, stopped}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not coming.done():
                    coming.cancel()
                    await asyncio.wait({coming})
            if coming.cancelled() or (current := coming.result()) is None:
                return
            yield current
    finally:
        stopped.cancel()


def job_accepted(job: JobStatus | JobOut, **headers: str) -> JSONResponse:
    """Answer 202 with the job and its address."""
    details = job if isinstance(job, JobOut) else JobOut.from_job(job)
    return JSONResponse(
        details.model_dump(mode="json"),
        status_code=202,
        headers={"Location": f"/v1/jobs/{job.id}", **headers},
    )
