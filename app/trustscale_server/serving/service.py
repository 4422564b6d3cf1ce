"""Upscaling requests, for HTTP and for jobs: from uploaded bytes to a stored result.

    prepare: UpscaleRequest ──choose, decode_upload, settle, admit_upload──▶ Admitted
    run:     Admitted ──generate──▶ Generated ──encode_answer──▶ Encoded ──sign, add_card, store──▶

`choose.py`, `upload.py`, `admit.py`, `generate.py` and `encode.py` have the steps.
`run` holds a slot (`AdmissionController`), and releases what a step has used up with the step.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field

from trustscale_server.platform.telemetry.metrics import Metrics
from trustscale_server.platform.telemetry.traces import span
from trustscale_server.sampling.measure import MeasurementSink
from trustscale_server.serving.admit import Admitted, admit_upload
from trustscale_server.serving.choose import choose, settle
from trustscale_server.serving.context import ServiceContext
from trustscale_server.serving.document import Picture, Result
from trustscale_server.serving.encode import Encoded, add_card, encode_answer, sign, store
from trustscale_server.serving.generate import generate
from trustscale_server.serving.request import UpscaleRequest
from trustscale_server.serving.upload import Upload, decode_upload

watcher: ContextVar[MeasurementSink] = ContextVar("watcher", default=MeasurementSink())  # noqa: B039
"""What gets the progress of requests that this process makes in its context."""


@dataclass(frozen=True, slots=True)
class UpscaleService:
    """Runs upscaling requests within bounded capacity."""

    context: ServiceContext
    metrics: Metrics = field(default_factory=Metrics)

    async def prepare(
        self,
        upload: Upload,
        request: UpscaleRequest,
        enlarged: Upload | None = None,
        *,
        unbounded_wait: bool = False,
        as_job: bool = False,
    ) -> Admitted:
        """Check everything that can be checked without generating.

        Args:
            upload: the file, or a function that gives it once it may be decoded.
            request: the other fields.
            enlarged: as `upload`, what somebody made of it.
            unbounded_wait: whether to wait for that however long the queue is.
            as_job: whether it has the deadline of a job.

        Raises:
            BadInput, NotFound, NoCalibration, CalibrationMismatch, UpscalerUnavailable, Overloaded.
        """
        context = self.context
        chosen = await choose(context, request)
        decoded = await decode_upload(
            context, chosen, upload, enlarged, unbounded_wait=unbounded_wait
        )
        chosen = await settle(context, chosen, decoded.features, decoded.shape)
        return await admit_upload(context, chosen, decoded, as_job=as_job)

    async def run(
        self,
        admitted: Admitted,
        *,
        result_id: str | None = None,
        unbounded_wait: bool = False,
        on_begin: Callable[[], None] = lambda: None,
        sink: MeasurementSink | None = None,
    ) -> Encoded:
        """Generate, mask and store.

        Args:
            admitted: from `prepare`.
            result_id: default: a fresh one.
            unbounded_wait: whether to wait for a slot however long the queue is.
            on_begin: called when it has its slot: from then on samples are paid for.
            sink: gets progress and the first sample; None: the `watcher` of the context.

        Raises:
            Overloaded, UpscalerError, DegenerateSamples; StoreUnavailable, before samples are
                made where the store takes no result.
        """
        arrived = time.perf_counter()
        context = self.context
        with span("upscale", admitted.trace_attributes):
            async with context.slots.slot(
                admitted.footprint,
                upscaler=admitted.chosen.upscaler.name,
                unbounded_wait=unbounded_wait,
            ):
                wait_s = time.perf_counter() - arrived
                self.metrics.observe("slot_wait_seconds", wait_s)
                if context.results is not None:
                    await context.results.probe()
                on_begin()
                # Nested, so that each step's input is released when the step has ended.
                encoded = await encode_answer(
                    await generate(
                        context,
                        admitted,
                        {"wait": 1e3 * wait_s},
                        sink or watcher.get(),
                    ),
                    result_id or f"res-{secrets.token_urlsafe(15)}",
                    path_prefix=context.path_prefix,
                )
                encoded = await add_card(context, await sign(context, encoded))
                await store(context, encoded)
        self._count(encoded.picture)
        return encoded

    def _count(self, picture: Picture) -> None:
        seconds_per_sample = picture.timings_ms["samples"] / 1e3 / picture.samples
        self.metrics.observe("sample_seconds", seconds_per_sample, picture.upscaler)
        promise = picture.promise()
        promised = "yes" if promise["promised"] else "no"
        self.metrics.count("answers", promised, picture.upscaler, str(promise.get("class") or ""))
        if isinstance(picture, Result):
            self.metrics.observe("trusted_fraction", picture.trusted_fraction, picture.upscaler)
            if picture.review is not None:
                outcome = "needs_look" if picture.review.needs_review else "accepted"
                self.metrics.count("reviews", picture.upscaler, outcome)
