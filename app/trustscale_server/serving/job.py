"""The job behind `Prefer: respond-async`: one upscaling request, run from its upload."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trustscale_server.jobs.document import DRAFT
from trustscale_server.jobs.handler import JobContext
from trustscale_server.pixels.lab import to_8_bit
from trustscale_server.platform.fair import current_client
from trustscale_server.platform.tasks import beside
from trustscale_server.sampling.kept_samples import KeptSamples
from trustscale_server.sampling.measure import MeasurementSink
from trustscale_server.serving.admit import Admitted
from trustscale_server.serving.request import UpscaleRequest
from trustscale_server.serving.service import UpscaleService
from trustscale_server.stores.base import Blobs, Job, JobAbout, StoreUnavailable
from trustscale_server.stores.job_status import JOB_PREFIX
from trustscale_server.stores.uploads import ENLARGED, IMAGE
from trustscale_server.upscalers.base import RGB

_DRAFT_SIDE: Final = 1024
_DRAFT_QUALITY: Final = 80
_DRAFT_EVERY_S: Final = 2.0
_Report: TypeAlias = Callable[[], Awaitable[None]]


def about_job(admitted: Admitted, request: UpscaleRequest, webhook: str | None) -> JobAbout:
    """Return what lists show of a job before it runs."""
    scale, estimate = admitted.chosen.pipeline.scale, admitted.estimate_s
    height, width = admitted.size
    return JobAbout(
        client=request.client or "",
        key=request.key,
        webhook=webhook,
        upscaler=admitted.chosen.upscaler.name,
        width=width * scale,
        height=height * scale,
        estimate_s=None if estimate is None else round(estimate, 1),
    )


@dataclass(frozen=True, slots=True)
class UpscaleHandler:
    """Runs upscale jobs (`trustscale_server.jobs.handler.Handler`)."""

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


class Draft:
    """A small picture of a sample that grows by tiles: a WebP file with transparency.

    every_s: seconds between two files, and before the first: a short job needs none.
    """

    def __init__(self, every_s: float = _DRAFT_EVERY_S) -> None:
        self._every_s = every_s
        self._lock = threading.Lock()  # tiles may be made side by side
        self._next = time.monotonic() + every_s
        self._canvas: NDArray[np.uint8] | None = None
        self._is_whole = False

    def tile(self, sample: RGB, rows: slice, columns: slice) -> bytes | None:
        """Take a tile of a sample [H, W, 3]; None: the file is not due, or the sample is whole."""
        with self._lock:
            if self._is_whole:
                return None
            step = max(1, max(sample.shape) // _DRAFT_SIDE)
            if self._canvas is None:
                height, width = (-(-side // step) for side in sample.shape[:2])
                self._canvas = np.zeros((height, width, 4), np.uint8)
            # Every step-th pixel: each belongs to one tile.
            y, x = (
                slice(-(-part.start // step), -(-part.stop // step)) for part in (rows, columns)
            )
            pixels = sample[step * y.start : rows.stop : step, step * x.start : columns.stop : step]
            self._canvas[y, x, :3] = to_8_bit(pixels)
            self._canvas[y, x, 3] = 255
            if time.monotonic() < self._next:
                return None
            small = _file(self._canvas)
            self._next = time.monotonic() + self._every_s
            return small

    def whole(self, sample: RGB) -> bytes:
        """Take the sample as it is in the end; no tile changes the file after it."""
        with self._lock:
            self._is_whole, self._canvas = True, None
        # Pillow would copy all of it at four bytes a pixel.
        step = max(1, max(sample.shape) // (2 * _DRAFT_SIDE))
        return _file(to_8_bit(sample[step // 2 :: step, step // 2 :: step]))


def _file(pixels: NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(pixels)
    image.thumbnail((_DRAFT_SIDE, _DRAFT_SIDE))
    file = io.BytesIO()
    image.save(file, "WEBP", quality=_DRAFT_QUALITY, method=0)
    return file.getvalue()


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
