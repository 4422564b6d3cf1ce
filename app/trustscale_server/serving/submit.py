"""Upscalings that are not awaited: whether one more may wait its turn, and its job."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from trustscale_server.jobs.queue import JobQueue
from trustscale_server.platform.errors import Overloaded
from trustscale_server.platform.fair import AdmissionController, current_client
from trustscale_server.serving.admit import Admitted
from trustscale_server.serving.request import UpscaleRequest
from trustscale_server.stores.job_status import JOB_PREFIX, Job, JobAbout, JobStatus
from trustscale_server.stores.opened import Stores
from trustscale_server.stores.uploads import ENLARGED, IMAGE, uploads_for


@dataclass(frozen=True, slots=True)
class UpscaleSubmitter:
    """Begins the jobs that upscale.

    drawing: bounds the whole files in memory. max_jobs: queued or running, of all clients.
    """

    stores: Stores
    queue: JobQueue
    drawing: AdmissionController
    max_jobs: int

    async def raise_if_full(self) -> None:
        """Raise Overloaded unless one more job of this client, which keeps its upload, may wait.

        A client may have as many as there are places left: half of all alone, a third beside
        another one that wants more, and so on. So a place is left for whoever comes.
        """
        pending = await self.stores.jobs.pending_by_client("upscale")
        own, free = pending[current_client.get()], self.max_jobs - pending.total()
        if free <= 0:
            raise Overloaded(f"{self.max_jobs} jobs are queued or running already.", retry_after=60)
        if own >= free:
            raise Overloaded(
                f"{own} jobs of yours are queued or running already; the {free} places that are "
                "left are for others.",
                retry_after=60,
            )

    async def submit(
        self,
        request: UpscaleRequest,
        admitted: Admitted,
        read: Callable[[], Awaitable[bytes]],
        read_enlarged: Callable[[], Awaitable[bytes]] | None,
        webhook: str | None,
    ) -> JobStatus:
        """Store the picture, and a job that upscales it.

        read, read_enlarged: return the whole files. webhook: the address that hears of the end.

        Raises:
            StoreUnavailable
        """
        job_id = f"{JOB_PREFIX}{secrets.token_urlsafe(15)}"
        blobs = self.stores.blobs
        async with uploads_for(self.stores, job_id):
            async with self.drawing.slot():
                await blobs.put(job_id, IMAGE, await read())
                if read_enlarged is not None:
                    await blobs.put(job_id, ENLARGED, await read_enlarged())
            return await self.queue.submit(
                Job(
                    id=job_id,
                    kind="upscale",
                    created_at=datetime.now(UTC),
                    about=_about(request, admitted, webhook),
                    request=request.model_dump(),
                )
            )


def _about(request: UpscaleRequest, admitted: Admitted, webhook: str | None) -> JobAbout:
    scale, estimate = admitted.chosen.pipeline.scale, admitted.estimate_s
    height, width = admitted.shape
    return JobAbout(
        client=request.client or "",
        key=request.key,
        webhook=webhook,
        upscaler=admitted.chosen.upscaler.name,
        width=width * scale,
        height=height * scale,
        estimate_s=None if estimate is None else round(estimate, 1),
    )
