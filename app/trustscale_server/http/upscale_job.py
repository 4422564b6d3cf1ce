"""An upscaling that is not awaited: whether it may wait its turn, and its job."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

from trustscale_server.http.state import State
from trustscale_server.http.upscale_form import SentPicture
from trustscale_server.platform.errors import Overloaded
from trustscale_server.platform.fair import current_client
from trustscale_server.serving.admit import Admitted
from trustscale_server.serving.job import about_job
from trustscale_server.serving.request import UpscaleRequest
from trustscale_server.stores.base import Job, JobStatus
from trustscale_server.stores.job_status import JOB_PREFIX
from trustscale_server.stores.uploads import ENLARGED, IMAGE, uploads_for


async def raise_if_queue_full(state: State) -> None:
    """Raise Overloaded unless one more job of this client, which keeps its upload, may wait.

    A client may have as many as there are places left: half of all alone, a third beside another
    one that wants more, and so on. So a place is left for whoever comes.
    """
    max_jobs = state.services.settings.max_queued_jobs
    pending = await state.services.stores.jobs.pending_by_client("upscale")
    own, free = pending[current_client.get()], max_jobs - pending.total()
    if free <= 0:
        raise Overloaded(f"{max_jobs} jobs are queued or running already.", retry_after=60)
    if own >= free:
        raise Overloaded(
            f"{own} jobs of yours are queued or running already; the {free} places that are left "
            f"are for others.",
            retry_after=60,
        )


async def submit_upscaling(
    state: State, sent: SentPicture, request: UpscaleRequest, prepared: Admitted
) -> JobStatus:
    """Store the picture, and a job that upscales it. Raises StoreUnavailable."""
    job_id = f"{JOB_PREFIX}{secrets.token_urlsafe(15)}"
    stores, context = state.services.stores, state.context
    async with uploads_for(stores, job_id):
        async with context.drawing.slot():  # bounds the whole files in memory
            await stores.blobs.put(job_id, IMAGE, await sent.read())
            if (enlarged := sent.form.enlarged) is not None:
                await enlarged.seek(0)
                await stores.blobs.put(job_id, ENLARGED, await enlarged.read())
        return await state.services.queue.submit(
            Job(
                id=job_id,
                kind="upscale",
                created_at=datetime.now(UTC),
                about=about_job(prepared, request, sent.form.webhook),
                request=request.model_dump(),
            )
        )
