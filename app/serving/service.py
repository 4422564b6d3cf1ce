"""Upscaling requests: from uploaded bytes to a stored result. HTTP and jobs both call this."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass

from app.sampling.draw import OnProgress
from app.sampling.measure import OnFirst
from app.serving.context import ServiceContext
from app.serving.make import Encoded, encode, generate, sign, store
from app.serving.options import UpscaleRequest
from app.serving.prepare import Admitted, Upload, admit, choose, decode, settle
from app.telemetry.tracing import span

Observer = Callable[[Encoded], None]
"""Is told of every answer that was stored; it returns at once, and raises nothing."""


watcher: ContextVar[OnProgress | None] = ContextVar("watcher", default=None)
"""Is told of the samples of the requests that are made in its context, by this process itself."""


@dataclass(slots=True)
class UpscaleService(ServiceContext):
    """Runs upscaling requests within bounded capacity; observers are notified of every answer."""

    observers: Sequence[Observer] = ()

    async def prepare(
        self,
        upload: Upload,
        request: UpscaleRequest,
        *,
        patient: bool = False,
        as_job: bool = False,
    ) -> Admitted:
        """Check everything that can be checked without generating.

        Args:
            upload: the file, or what gives it when it has a place among those that are decoded.
            request: the other fields.
            patient: whether to wait for that however many do.
            as_job: whether it has the deadline of a job.

        Raises:
            BadInput, NotFound, NoCalibration, CalibrationMismatch, UpscalerUnavailable, Overloaded.
        """
        chosen = await choose(self, request)
        decoded = await decode(self, chosen, upload, patient=patient)
        decoded = await settle(self, decoded)
        return await admit(self, decoded, as_job=as_job)

    async def run(
        self,
        admitted: Admitted,
        *,
        result_id: str | None = None,
        patient: bool = False,
        on_begin: Callable[[], None] = lambda: None,
        on_progress: OnProgress | None = None,
        on_first: OnFirst | None = None,
    ) -> Encoded:
        """Generate, mask and store.

        Args:
            admitted: what `prepare` has made.
            result_id: default: a fresh one.
            patient: whether to wait for a slot however long the queue is.
            on_begin: called when it has its slot: from then on samples are paid for.
            on_progress: see `measure`; None: the `watcher` of the context.
            on_first: see `measure`.

        Raises:
            Overloaded, UpscalerError, DegenerateSamples.
        """
        arrived = time.perf_counter()
        with span("upscale", admitted.facts):
            async with self.slots.slot(admitted.footprint, patient=patient):
                waited = {"wait": 1e3 * (time.perf_counter() - arrived)}
                on_begin()
                # Nested, so that each step's input is let go when the step has ended.
                encoded = await encode(
                    await generate(
                        self,
                        admitted,
                        waited,
                        on_progress=on_progress or watcher.get(),
                        on_first=on_first,
                    ),
                    result_id or f"res-{secrets.token_urlsafe(15)}",
                )
                encoded = await sign(self, encoded)
                await store(self, encoded)
        for observer in self.observers:
            observer(encoded)
        return encoded
