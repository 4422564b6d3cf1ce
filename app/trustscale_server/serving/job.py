"""The job behind `Prefer: respond-async`: one upscaling request, run from its upload."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeAlias

import numpy as np
from PIL import Image

from trustscale_server.images.encode import picture
from trustscale_server.jobs.tasks import JobContext
from trustscale_server.pixels.lab import to_8_bit
from trustscale_server.platform.fair import current_client
from trustscale_server.platform.tasks import beside
from trustscale_server.sampling.kept_samples import KeptSamples
from trustscale_server.sampling.measure import MeasurementSink
from trustscale_server.serving.admit import Admitted
from trustscale_server.serving.request import UpscaleRequest
from trustscale_server.serving.service import UpscaleService
from trustscale_server.stores.base import ENLARGED, IMAGE, Blobs, Job, StoreUnavailable
from trustscale_server.upscalers.base import RGB

DRAFT: Final = "draft.jpeg"
"""The first sample, small, shown while the job runs."""

_DRAFT_SIDE: Final = 1024
_DRAFT_QUALITY: Final = 80
_Report: TypeAlias = Callable[[], Awaitable[None]]


def expected_job(admitted: Admitted) -> dict[str, str]:
    """Return what lists show of a job before it runs: upscaler, size and expected time."""
    scale, estimate = admitted.chosen.pipeline.scale, admitted.estimate_s
    height, width = admitted.size
    row = {
        "upscaler": admitted.chosen.upscaler.name,
        "width": str(width * scale),
        "height": str(height * scale),
    }
    return row if estimate is None else {**row, "estimate_s": f"{estimate:.1f}"}


@dataclass(frozen=True, slots=True)
class UpscaleHandler:
    """Runs upscale jobs (`trustscale_server.jobs.tasks.Handler`)."""

    service: UpscaleService
    blobs: Blobs

    async def __call__(self, job: Job, context: JobContext) -> str:
        """Generate, store the result under the job's id, return its link."""
        request = UpscaleRequest(**job.request)
        current_client.set(request.client or "")
        prepared = await self.service.prepare(
            lambda: self.blobs.get(job.id, IMAGE),
            request,
            (lambda: self.blobs.get(job.id, ENLARGED)) if request.has_enlarged else None,
            unbounded_wait=True,
            as_job=True,
        )
        keeping = KeptSamples(prepared.chosen.upscaler, self.blobs, job.id)
        prepared = replace(prepared, chosen=replace(prepared.chosen, upscaler=keeping))
        async with _reporting() as report:
            answer = await self.service.run(
                prepared,
                result_id=job.id.replace("job-", "res-", 1),
                unbounded_wait=True,
                sink=_JobSink(context, report, partial(self._keep, job.id)),
            )
        context.facts.update(answer.picture.promise())
        if (result := answer.result) is not None and result.review is not None:
            await context.note("needs_review", "yes" if result.review.needs_review else "no")
        return answer.picture.links.self

    async def _keep(self, job: str, small: bytes) -> None:
        # The draft is not worth the job.
        with suppress(StoreUnavailable):
            await self.blobs.put(job, DRAFT, small)


class _JobSink(MeasurementSink):
    """Reports progress, and a draft of the first sample, to the stores."""

    def __init__(
        self,
        context: JobContext,
        report: Callable[[str, _Report], None],
        keep: Callable[[bytes], Awaitable[None]],
    ) -> None:
        self._context, self._report, self._keep = context, report, keep
        self._loop = asyncio.get_running_loop()

    def on_progress(self, done: int, total: int, unit: str) -> None:
        self._report("progress", lambda: self._context.progress(done, total, unit))

    def on_first(self, sample: RGB) -> None:
        small = draft(sample)
        self._loop.call_soon_threadsafe(self._report, "draft", lambda: self._keep(small))


def draft(sample: RGB) -> bytes:
    """Return a small JPEG of a picture."""
    # Pillow would copy all of it at four bytes a pixel.
    step = max(1, max(sample.shape) // (2 * _DRAFT_SIDE))
    image = Image.fromarray(to_8_bit(sample[step // 2 :: step, step // 2 :: step]))
    image.thumbnail((_DRAFT_SIDE, _DRAFT_SIDE))
    return picture(np.asarray(image), "jpeg", quality=_DRAFT_QUALITY)


@asynccontextmanager
async def _reporting() -> AsyncIterator[Callable[[str, _Report], None]]:
    """A callback for reports, which are written to the stores one after the other.

    Of those on one subject that wait for a slow store, the newest counts.
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
