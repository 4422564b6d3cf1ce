"""The job behind `Prefer: respond-async`: one upscaling request, run from its spooled upload."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from typing import Any, Final

from app.errors import UpscalerUnavailable
from app.jobs.handlers import JobContext
from app.serving.request import UpscaleRequest
from app.serving.service import UpscaleService
from app.stores.base import Job, Spool

# Nobody waits for the answer of a job, so it outlives the restart of a worker with a large model.
# Not much more: it occupies its job worker meanwhile, which others need.
PATIENCE_S: Final = 60.0
_SHORTEST_PAUSE_S: Final = 0.5


def spooled_request(request: UpscaleRequest, seed: int) -> dict[str, Any]:
    """The request as the job store keeps it; the seed is fixed, so a second attempt is the same."""
    return {**asdict(request), "seed": seed}


class UpscaleHandler:
    """Runs upscale jobs; an upscaler that is away for no longer than `patience_s` is waited for."""

    def __init__(
        self, service: UpscaleService, spool: Spool, *, patience_s: float = PATIENCE_S
    ) -> None:
        self.service = service
        self.spool = spool
        self.patience_s = patience_s

    async def __call__(self, job: Job, context: JobContext) -> str:
        """Generate, store the result under the job's id, return its link."""
        clock = asyncio.get_running_loop().time
        end = clock() + self.patience_s
        while True:
            try:
                return await self._upscale(job, context)
            except UpscalerUnavailable as away:
                pause = max(_SHORTEST_PAUSE_S, away.retry_after)
                if clock() + pause > end:
                    raise
                await asyncio.sleep(pause)

    async def _upscale(self, job: Job, context: JobContext) -> str:
        prepared = await self.service.prepare(
            lambda: self.spool.get(job.id, "image"), UpscaleRequest(**job.request), patient=True
        )
        async with _reporting(context) as report:
            answer = await self.service.run(
                prepared,
                result_id=job.id.replace("job-", "res-", 1),
                patient=True,
                on_progress=report,
            )
        return answer.result.links.self


@asynccontextmanager
async def _reporting(context: JobContext) -> AsyncIterator[Callable[[int, int], None]]:
    """A callback for progress whose calls are written to the store one after the other."""
    told: asyncio.Queue[tuple[int, int]] = asyncio.Queue()

    async def write() -> None:
        while True:
            done, total = await told.get()
            await context.progress(done, total, "samples")
            told.task_done()

    writer = asyncio.create_task(write())
    try:
        yield lambda done, total: told.put_nowait((done, total))
        # The writer ends by itself only with an error, such as that of an overtaken attempt.
        waiting = asyncio.create_task(told.join())
        await asyncio.wait({waiting, writer}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if writer.done():
            await writer
    finally:
        writer.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(writer, return_exceptions=True)
