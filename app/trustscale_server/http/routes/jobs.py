"""Jobs: state, progress as server-sent events, cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated

from fastapi import Depends
from fastapi.responses import JSONResponse, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from trustscale_server.http.access import AdminDep, ClientDep, client_router
from trustscale_server.http.openapi import file_response
from trustscale_server.http.problems import problem_responses
from trustscale_server.http.state import StateDep
from trustscale_server.jobs.document import DRAFT, JobOut, is_drafted, shown_job, unfinished_jobs
from trustscale_server.platform.errors import NotFound
from trustscale_server.stores.job_status import JobStatus

router = client_router("", "bad-request", tag="jobs")


async def _job(job_id: str, state: StateDep, _: ClientDep) -> JobStatus:
    return await state.services.stores.jobs.get(job_id)


_JobDep = Annotated[JobStatus, Depends(_job)]

_PROBLEMS = problem_responses("not-found", "unauthorized")


@router.get("/v1/jobs/{job_id}", responses=_PROBLEMS)
async def get_job(job: _JobDep, state: StateDep) -> JobOut:
    """Read the state of a job."""
    return await shown_job(state.services.stores, job, state.services.settings.path_prefix)


@router.get("/v1/jobs/{job_id}/events", response_class=EventSourceResponse, responses=_PROBLEMS)
async def watch_job(job: _JobDep, state: StateDep) -> AsyncIterator[ServerSentEvent]:
    """Follow a job until it ends, or until the server stops.

    The events are its state now and after every change.
    """
    stores, prefix = state.services.stores, state.services.settings.path_prefix
    async with (
        aclosing(stores.jobs.watch(job.id)) as watched,
        aclosing(_until(state.stopping, watched)) as states,
    ):
        async for current in states:
            details = await shown_job(stores, current, prefix)
            yield ServerSentEvent(data=details.model_dump(mode="json"), event="job")


@router.get(
    f"/v1/jobs/{{job_id}}/{DRAFT}",
    response_class=Response,
    responses={**file_response("image/webp"), **_PROBLEMS},
)
async def get_draft(job: _JobDep, state: StateDep) -> Response:
    """Fetch the first sample of a running upscaling job, reduced, as far as it is made."""
    if not is_drafted(job):
        raise NotFound(f"The job {job.id} has no draft now.")
    data = await state.services.stores.blobs.get(job.id, DRAFT)
    return Response(data, media_type="image/webp", headers={"Cache-Control": "no-store"})


@router.delete("/v1/jobs/{job_id}", responses=_PROBLEMS)
async def cancel_job(job: _JobDep, state: StateDep) -> JobOut:
    """Cancel a job.

    A queued job ends at once, a running one within seconds; one that has ended stays as it is.
    """
    cancelled = await state.services.queue.cancel(job.id)
    return await shown_job(state.services.stores, cancelled, state.services.settings.path_prefix)


@router.get(
    "/v1/admin/jobs", tags=["admin"], responses=problem_responses("unauthorized", "forbidden")
)
async def list_jobs(state: StateDep, _: AdminDep) -> list[JobOut]:
    """List the jobs that have not ended, the newest first."""
    return await unfinished_jobs(state.services.stores, state.services.settings.path_prefix)


async def _until(
    stopping: asyncio.Event, states: AsyncGenerator[JobStatus, None]
) -> AsyncGenerator[JobStatus, None]:
    """Yield the states of a job, until the server stops: an open stream would keep it running."""
    stopped = asyncio.create_task(stopping.wait())
    try:
        while True:
            next_state = asyncio.ensure_future(anext(states, None))
            try:
                await asyncio.wait({next_state, stopped}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not next_state.done():
                    next_state.cancel()
                    await asyncio.wait({next_state})
            if next_state.cancelled() or (current := next_state.result()) is None:
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
