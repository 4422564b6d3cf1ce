"""The job behind `Prefer: respond-async`: one upscaling request, run from its spooled upload."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

from app.jobs.handlers import JobContext
from app.service import UpscaleRequest, UpscaleService
from app.stores.base import Job, Spool


def spooled_request(request: UpscaleRequest, seed: int) -> dict[str, Any]:
    """The request as the job store keeps it; the seed is fixed, so a second attempt is the same."""
    return {**asdict(request), "seed": seed}


class UpscaleHandler:
    """Runs upscale jobs."""

    def __init__(self, service: UpscaleService, spool: Spool) -> None:
        self.service = service
        self.spool = spool

    async def __call__(self, job: Job, context: JobContext) -> str:
        """Generate, store the result under the job's id, return its link."""
        data = await self.spool.get(job.id, "image")
        prepared = await self.service.prepare(data, UpscaleRequest(**job.request))
        loop = asyncio.get_running_loop()
        reports: set[asyncio.Task[None]] = set()

        def report(done: int, total: int) -> None:
            task = loop.create_task(context.progress(done, total, "samples"))
            reports.add(task)
            task.add_done_callback(reports.discard)

        answer = await self.service.run(
            prepared,
            result_id=job.id.replace("job-", "res-", 1),
            patient=True,
            on_progress=report,
        )
        if reports:
            await asyncio.gather(*reports)
        return answer.result.links.self
