"""POST /v1/upscale: an image becomes an upscaled image with its trust mask."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Form, Header, Request
from fastapi.responses import Response

from trustscale_server.http.access import ClientDep, client_router, require_admin
from trustscale_server.http.answer import answer_files, respond
from trustscale_server.http.connection import while_connected
from trustscale_server.http.idempotency import KEY_KEPT_S, IdempotencyKey, StoredResponse
from trustscale_server.http.middleware import note
from trustscale_server.http.negotiation import (
    FORMAT_OF_TYPE,
    JSON,
    ZIP,
    format_field,
    negotiate,
    prefers,
)
from trustscale_server.http.openapi import BINARY
from trustscale_server.http.problems import limited_responses, problem_responses
from trustscale_server.http.routes.jobs import job_accepted
from trustscale_server.http.routes.results import DetailQuery
from trustscale_server.http.state import State, StateDep
from trustscale_server.http.upscale_form import SentPicture, UpscaleForm, raise_if_sent_twice
from trustscale_server.images.sandbox.client import ImageFile
from trustscale_server.jobs.document import JobOut, shown_job
from trustscale_server.platform.errors import BadRequest
from trustscale_server.platform.fair import current_client
from trustscale_server.serving.admit import Admitted
from trustscale_server.serving.document import Detail, Result, Unmasked
from trustscale_server.serving.request import UpscaleRequest
from trustscale_server.serving.stored_answer import stored_picture
from trustscale_server.stores.job_status import JOB_PREFIX

router = client_router()

_PROBLEMS = (
    "no-promise", "no-calibration", "calibration-mismatch", "bad-image", "decode-limit",
    "bad-alpha", "bad-group", "bad-request", "image-too-large", "too-slow", "unsupported-media",
    "upscaler-unavailable",
    "upscaler-failed", "degenerate-samples", "not-found",
)  # fmt: skip
_ASYNC = {"Preference-Applied": "respond-async"}


def _header(text: str, kind: str = "string") -> dict[str, Any]:
    return {"description": f"With a picture: {text}", "schema": {"type": kind}}


_PICTURE_HEADERS = {
    "Link": _header("the result document (`describedby`) and the mask (`related`)."),
    "Trustscale-Promised": _header("whether anything is promised of it.", "boolean"),
    "Trustscale-Promise": _header("what is promised, or why nothing is, percent-encoded."),
    "Trustscale-Alpha": _header("α, the largest expected error in the mask.", "number"),
    "Trustscale-Trusted-Fraction": _header("how much of it is trusted.", "number"),
    "Trustscale-Warnings": _header("the number of warnings in the result document.", "integer"),
}


@router.post(
    "/v1/upscale",
    response_model=Result | Unmasked,
    responses={
        200: {
            "description": "The result; with `Accept: application/zip` image.png, mask.png, "
            "trust.png and result.json together; with `Accept: image/…` the picture alone, in that "
            "format.",
            "content": {kind: {"schema": BINARY} for kind in (ZIP, *FORMAT_OF_TYPE)},
            "headers": _PICTURE_HEADERS,
        },
        202: {"description": "With `Prefer: respond-async`: the job.", "model": JobOut},
        **limited_responses(*_PROBLEMS),
        **problem_responses("too-slow", status=504),
    },
    form_limits={"max_files": 2},
)
async def upscale(
    request: Request,
    state: StateDep,
    key: ClientDep,
    form: Annotated[UpscaleForm, Form(media_type="multipart/form-data")],
    idempotency_key: IdempotencyKey = None,
    accept: Annotated[str, Header()] = JSON,
    _: Annotated[str, Header(alias="prefer", title="Prefer")] = "",
    detail: DetailQuery = "short",
) -> Response:
    """Upscale an image and mark where it can be trusted."""
    media_type = negotiate(accept)
    await raise_if_sent_twice(request)
    options = (
        form.chosen()
        | format_field(media_type, form)
        | await _calibration_to_try(request, state, form)
    )
    client = current_client.get()
    upscaling = _Upscaling(
        request=request,
        state=state,
        options=UpscaleRequest(
            **options,
            client=client,
            key=key,
            keep_s=None if idempotency_key is None else KEY_KEPT_S,
            has_enlarged=form.enlarged is not None,
        ),
        sent=SentPicture(form, state, key),
        as_job=prefers("respond-async", request.headers.getlist("prefer")),
        media_type=media_type,
        detail=detail,
    )
    upscaling.sent.raise_if_unusable(as_job=upscaling.as_job)
    return await state.idempotency.once(request, client, upscaling.make, upscaling.recall)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Upscaling:
    """One request: it is answered by `make`, and a repetition with its key by `recall`."""

    request: Request
    state: State
    options: UpscaleRequest
    sent: SentPicture
    as_job: bool
    media_type: str
    detail: Detail

    async def make(self) -> StoredResponse:
        """Answer, or begin a job."""
        await self._raise_if_full(0, self.options.upscaler)
        prepared = await while_connected(
            self.request,
            self.state.services.service.prepare(
                self._read, self.options, self.sent.enlarged, as_job=self.as_job
            ),
        )
        upscaler = prepared.chosen.upscaler.name
        note(self.request, upscaler=upscaler)
        await self._raise_if_full(prepared.footprint, upscaler)
        await self.state.charge("pixels", math.prod(prepared.shape))
        return await (self._begin_job(prepared) if self.as_job else self._answer(prepared))

    async def recall(self, made_id: str) -> Response:
        """Answer again with what was made. Raises NotFound, or BadRequest for another format."""
        stores = self.state.services.stores
        if made_id.startswith(JOB_PREFIX):
            job = await stores.jobs.get(made_id)
            document = await shown_job(stores, job, self.state.services.settings.path_prefix)
            return job_accepted(document, **_ASYNC)
        picture = stored_picture(await stores.results.document(made_id))
        if picture.format != self.options.format:
            raise BadRequest(
                f"The answer to this Idempotency-Key has a picture of format={picture.format}; "
                "ask for that format."
            )
        names = answer_files(picture, self.media_type)
        files = {name: await stores.results.file(made_id, name) for name in names}
        return await respond(picture, files, self.media_type, self.detail)

    async def _raise_if_full(self, cost: int, upscaler: str | None) -> None:
        if self.as_job:
            await self.state.services.submitter.raise_if_full()
        else:
            self.state.context.raise_if_full(upscaler, cost)

    async def _read(self) -> ImageFile:
        context = self.state.context
        if not self.as_job:  # again: others may have come since, and decoding costs time
            context.raise_if_full(self.options.upscaler)
            context.decoding.raise_if_full()
        # Only now: requests with other faults do not count.
        await self.state.charge("requests")
        return await self.sent.open(for_reading_again=self.as_job)

    async def _begin_job(self, prepared: Admitted) -> StoredResponse:
        sent = self.sent
        job = await self.state.services.submitter.submit(
            self.options, prepared, sent.read, sent.read_enlarged, sent.form.webhook
        )
        note(self.request, job=job.id)
        await self.sent.forget()
        if self.options.keep_s is None and await self.request.is_disconnected():
            # The client does not know its id, and would pay for nothing.
            await self.state.services.queue.cancel(job.id)
        return StoredResponse(job.id, job_accepted(job, **_ASYNC))

    async def _answer(self, prepared: Admitted) -> StoredResponse:
        has_begun = asyncio.Event()
        answer = await while_connected(
            self.request,
            self.state.services.service.run(prepared, on_begin=has_begun.set),
            # Paid results are kept, so a retry with the same key gets them.
            finishes=lambda: self.options.keep_s is not None and has_begun.is_set(),
        )
        picture = answer.picture
        times = {f"{name}_ms": round(ms, 1) for name, ms in picture.timings_ms.items()}
        note(self.request, **times, **picture.promise())
        await self.sent.forget()
        files = {name: answer.files[name] for name in answer_files(picture, self.media_type)}
        response = await respond(picture, files, self.media_type, self.detail)
        return StoredResponse(picture.id, response)


async def _calibration_to_try(request: Request, state: State, form: UpscaleForm) -> dict[str, str]:
    """The calibration that an admin tries, and its upscaler.

    Raises:
        Unauthorized, Forbidden: it is no admin.
        NotFound: no such calibration.
    """
    if not form.calibration:
        return {}
    require_admin(request, state)
    calibration = await state.services.calibrations.get(form.calibration)
    return {"calibration": calibration.id, "upscaler": calibration.manifest.upscaler}
