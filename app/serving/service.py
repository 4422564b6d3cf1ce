"""Upscaling requests: from uploaded bytes to a stored result. HTTP and jobs both call this."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from app.images.decoders import File
from app.sampling.draw import OnProgress
from app.serving.pipeline import ANSWER, PREPARE, Step
from app.serving.work import Means, UpscaleRequest, Work
from app.telemetry.tracing import span
from app.upscalers.base import RGB

Observer = Callable[[Work], None]
"""Is told of every answer that was stored; it returns at once, and raises nothing."""


@dataclass(slots=True)
class UpscaleService(Means):
    """Runs upscaling requests within bounded capacity.

    observers: are told of every answer.
    steps: make the answer, in a slot.
    """

    observers: Sequence[Observer] = ()
    steps: Sequence[Step] = ANSWER

    async def prepare(
        self,
        upload: bytes | Callable[[], Awaitable[File]],
        request: UpscaleRequest,
        *,
        patient: bool = False,
        as_job: bool = False,
    ) -> Work:
        """Check everything that can be checked without generating.

        Args:
            upload: the file, or what gives it when it has a place among those that are decoded.
            request: the other fields.
            patient: whether to wait for that however many do.
            as_job: whether it has the deadline of a job.

        Raises:
            BadInput, NotFound, NoCalibration, CalibrationMismatch, UpscalerUnavailable, Overloaded.
        """
        work = Work(self, request, upload, patient, as_job)
        for step in PREPARE:
            await step(work)
        return work

    async def run(
        self,
        work: Work,
        *,
        result_id: str | None = None,
        patient: bool = False,
        on_progress: OnProgress | None = None,
        on_first: Callable[[RGB], None] | None = None,
    ) -> Work:
        """Generate, mask and store; `patient` waits for a slot however long the queue is.

        `on_progress` and `on_first` are those of `measure`.

        Raises:
            Overloaded, UpscalerError, DegenerateSamples.
        """
        work.result_id = result_id or f"res-{secrets.token_urlsafe(15)}"
        work.on_progress, work.on_first = on_progress, on_first
        arrived = time.perf_counter()
        with span("upscale", work.facts):
            async with self.slots.slot(work.footprint, patient=patient):
                work.timings_ms["wait"] = 1e3 * (time.perf_counter() - arrived)
                for step in self.steps:
                    await step(work)
        for observer in self.observers:
            observer(work)
        return work
