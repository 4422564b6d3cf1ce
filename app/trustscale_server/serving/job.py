"""The job behind `Prefer: respond-async`: one upscaling request, run from its upload."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

from trustscale_server.jobs.document import DRAFT
from trustscale_server.jobs.handler import JobContext
from trustscale_server.platform.fair import current_client
from trustscale_server.platform.tasks import beside
from trustscale_server.sampling.kept_samples import KeptSamples
from trustscale_server.sampling.measure import MeasurementSink
from trustscale_server.serving.draft import Draft
from trustscale_server.serving.request import UpscaleRequest
from trustscale_server.serving.service import UpscaleService
from trustscale_server.stores.blobs import Blobs
from trustscale_server.stores.documents import StoreUnavailable
from trustscale_server.stores.job_status import JOB_PREFIX, Job
from trustscale_server.stores.uploads import ENLARGED, IMAGE
from trustscale_server.upscalers.base import RGB

_Report: TypeAlias = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class UpscaleHandler:
    """Runs upscale jobs (`trustscale_server.jobs.handler.Handler`)."""

    service: UpscaleService
    blobs: Blobs

    async def __call__(self, job: Job, context: JobContext) -> str:
        """Generate, store the result under the job's id, return its link."""
        request = UpscaleRequest(**job.request)
        current_client.set(request.client or "")
        image, enlarged = (partial(self.blobs.get, job.id, name) for name in (IMAGE, ENLARGED))
        prepared = await self.service.prepare(
            image,
            request,
            enlarged if request.has_enlarged else None,
            unbounded_wait=True,
            as_job=True,
        )
        keeping = KeptSamples(prepared.chosen.upscaler, self.blobs, job.id)
        prepared = replace(prepared, chosen=replace(prepared.chosen, upscaler=keeping))
        async with _reporting() as report:
            answer = await self.service.run(
                prepared,
                result_id=job.id.replace(JOB_PREFIX, "res-", 1),
                unbounded_wait=True,
                sink=_JobSink(context, report, partial(self._keep, job.id)),
            )
        context.attributes.update(answer.picture.promise())
        if (result := answer.result) is not None and result.review is not None:
            await context.note(needs_review=result.review.needs_review)
        return answer.picture.links.self

    async def _keep(self, job: str, small: bytes) -> None:
        # The draft is not worth the job.
        with suppress(StoreUnavailable):
            await self.blobs.put(job, DRAFT, small)


class _JobSink(MeasurementSink):
    """Reports progress, and a draft of the first sample as it grows, to the stores."""

    def __init__(
        self,
        context: JobContext,
        report: Callable[[str, _Report], None],
        keep: Callable[[bytes], Awaitable[None]],
    ) -> None:
        self._context, self._report, self._keep = context, report, keep
        self._loop = asyncio.get_running_loop()
        self._draft = Draft()

    def on_progress(self, done: int, total: int, unit: str) -> None:
        self._report("progress", lambda: self._context.progress(done, total, unit))

    def on_first(self, sample: RGB) -> None:
        self._show(self._draft.whole(sample))

    def on_tile(self, sample: RGB, rows: slice, columns: slice) -> None:
        self._show(self._draft.tile(sample, rows, columns))

    def _show(self, small: bytes | None) -> None:
        if small is not None:
            with suppress(RuntimeError):  # the loop was closed
                self._loop.call_soon_threadsafe(self._report, "draft", lambda: self._keep(small))


@asynccontextmanager
async def _reporting() -> AsyncIterator[Callable[[str, _Report], None]]:
    """A callback for reports, which are written to the stores one after the other.

    While the store is slow, a report replaces the one on its subject that waits.
    """
    waiting: dict[str, _Report | None] = {}
    news = asyncio.Event()

    def tell(subject: str, report: _Report | None) -> None:
        waiting[subject] = report
        news.set()

    async def write() -> None:
        while True:
            await news.wait()
            news.clear()
            while waiting:
                report = waiting.pop(next(iter(waiting)))
                if report is None:
                    return
                await report()

    async with beside(write()) as writer:
        yield tell
        tell("end", None)
        await writer  # raises its error, such as that of an overtaken attempt
