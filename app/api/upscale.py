"""POST /v1/upscale: an image in, the upscaled image and its trust mask out."""

from __future__ import annotations

import asyncio
import io
import math
import re
import secrets
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, File, Form, Header, Request, UploadFile
from fastapi.responses import Response

from app.api.clients import client_name, while_connected
from app.api.deps import ClientDep, State, StateDep
from app.api.document import BINARY
from app.api.idempotency import IdempotencyKey, StoredResponse
from app.api.jobs import JobOut, Webhook, accepted, shown
from app.api.problems import problem_responses
from app.errors import BadRequest, NotFound, Overloaded
from app.images.decoders import File as ImageFile
from app.serving.answer import (
    MASK,
    TRUST,
    TRUST_COG,
    Picture,
    Result,
    Unmasked,
    image_file,
    stored_picture,
)
from app.serving.believed import BELIEVED
from app.serving.job import expected, uploaded_request
from app.serving.options import UpscaleOptions, UpscaleRequest
from app.serving.prepare import Admitted
from app.stores.base import Job, JobStatus, StoreUnavailable
from app.stores.uploads import IMAGE, direct_folder, uploads_for
from app.watch.monitor import client_digest

router = APIRouter(tags=["upscale"])

JOB = "job-"

_PICTURES = ("image", "image_url", "upload")
_ASYNC = {"Preference-Applied": "respond-async"}
_JSON, _ZIP = "application/json", "application/zip"

# A string in a parameter of a media range; one that does not end goes on to the end.
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_QUALITY = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?")


class UpscaleForm(UpscaleOptions):
    """What is sent: the picture, and what is to be made of it."""

    image: Annotated[
        UploadFile | None, File(description="PNG, JPEG, WebP, AVIF, TIFF, BMP or GIF.")
    ] = None
    image_url: Annotated[
        str | None,
        Form(
            max_length=2000,
            description="In place of `image`: where it is, on a host that the service allows.",
        ),
    ] = None
    upload: Annotated[
        str | None,
        Form(
            pattern=r"^[A-Za-z0-9_-]{1,64}$",
            description="In place of `image`: what was sent to a link of `POST /v1/uploads`.",
        ),
    ] = None
    webhook: Webhook = None


@router.post(
    "/v1/upscale",
    response_model=Result | Unmasked,
    responses={
        200: {
            "description": "The result; with `Accept: application/zip` image.png, mask.png, "
            "trust.png and result.json together.",
            "content": {_ZIP: {"schema": BINARY}},
        },
        202: {"description": "With `Prefer: respond-async`: the job.", "model": JobOut},
        **problem_responses(
            "no-calibration",
            "calibration-mismatch",
            "bad-image",
            "decode-limit",
            "bad-alpha",
            "bad-group",
            "bad-request",
            "image-too-large",
            "too-slow",
            "unsupported-media",
            "upscaler-unavailable",
            "upscaler-failed",
            "degenerate-samples",
            "overloaded",
            "unauthorized",
            "not-found",
        ),
        **problem_responses("overloaded", status=429),
        **problem_responses("too-slow", status=504),
    },
)
async def upscale(
    request: Request,
    state: StateDep,
    key: ClientDep,
    form: Annotated[UpscaleForm, Form(media_type="multipart/form-data")],
    idempotency_key: IdempotencyKey = None,
    accept: Annotated[str, Header()] = _JSON,
    _: Annotated[str, Header(alias="prefer", title="Prefer")] = "",
) -> Response:
    """Upscale an image and mark where it can be trusted."""
    media_type = negotiate(accept)
    client = client_name(request, key)
    results = state.stores.results
    keep_s = None if idempotency_key is None else state.settings.idempotency_ttl_s
    fields = UpscaleRequest(**form.chosen(), client=client_digest(client), keep_s=keep_s)
    webhook = form.webhook
    upload = _Upload(form, state, key)
    as_job = prefers("respond-async", request.headers.getlist("prefer"))
    upload.check(as_job=as_job)

    async def check_room(cost: int = 0) -> None:
        if as_job:
            await _check_queue(state)
        else:
            state.service.slots.check_room(cost)

    async def read() -> ImageFile:
        if not as_job:  # again: others came meanwhile, and decoding is work
            state.service.slots.check_room()
        # Not before: what the other fields forbid takes nothing from the client's share.
        await state.limits.take(client, "requests")
        return await upload.open(again=as_job)

    async def make() -> StoredResponse:
        await check_room()
        prepared = await while_connected(
            request, state.service.prepare(read, fields, as_job=as_job)
        )
        await check_room(prepared.footprint)
        await state.limits.take(client, "pixels", math.prod(prepared.size))
        if as_job:
            job = await _submit(state, upload, fields, prepared, webhook)
            await upload.forget()
            if idempotency_key is None and await request.is_disconnected():
                # Nobody will ever know its id: it would be paid for in vain.
                await state.queue.cancel(job.id)
            return StoredResponse(job.id, accepted(job, **_ASYNC))
        has_begun = asyncio.Event()
        answer = await while_connected(
            request,
            state.service.run(prepared, on_begin=has_begun.set),
            # What is paid for is kept for who asks again.
            finishes=lambda: idempotency_key is not None and has_begun.is_set(),
        )
        await upload.forget()
        files = {name: answer.files[name] for name in _parts(answer.picture, media_type)}
        return StoredResponse(answer.picture.id, await _respond(answer.picture, files, media_type))

    async def recall(made: str) -> Response:
        if made.startswith(JOB):
            return accepted(await shown(state, await state.stores.jobs.get(made)), **_ASYNC)
        result = stored_picture(await results.document(made))
        names = _parts(result, media_type)
        return await _respond(result, {n: await results.blob(made, n) for n in names}, media_type)

    return await state.idempotency.once(request, client, make, recall)


@dataclass(slots=True)
class _Upload:
    """The picture of a form, or where it says that it is; `key` is the client's."""

    form: UpscaleForm
    state: State
    key: str | None
    fetched: bytes | None = None

    def check(self, *, as_job: bool) -> None:
        """Return if there is one, and it and the webhook may be. Raises BadRequest."""
        sent = [name for name in _PICTURES if getattr(self.form, name) is not None]
        if len(sent) > 1:
            raise BadRequest(f"Send {' or '.join(sent)}, not both.")
        if not sent:
            reason = "this is missing; send a form with the file, with curl: -F image=@FILE"
            raise BadRequest(f"image: {reason}.", fields=[{"field": "image", "reason": reason}])
        if self.form.image_url is not None:
            self.state.settings.image_sources.check()
        if self.form.webhook is not None:
            self.state.settings.webhooks.check(self.form.webhook, is_job=as_job)

    async def open(self, *, again: bool) -> ImageFile:
        """The file; one that was fetched is kept only where it is needed again.

        Raises BadRequest, ImageTooLarge, NotFound.
        """
        if self.form.image is not None:
            return self.form.image.file
        data = await self._fetch()
        self.fetched = data if again else None
        return data

    async def _fetch(self) -> bytes:
        settings = self.state.settings
        if self.form.upload is None:
            url = self.form.image_url or ""
            return await settings.image_sources.fetch(url, settings.max_upload_bytes)
        try:
            return await self.state.stores.blobs.get(
                self._folder, IMAGE, most=settings.max_upload_bytes
            )
        except NotFound:
            raise NotFound(
                f"There is no upload {self.form.upload!r} of yours: it was not sent, or was used."
            ) from None

    @property
    def _folder(self) -> str:
        return direct_folder(self.key, self.form.upload or "")

    async def forget(self) -> None:
        """Remove what was sent to the object store, and has been used."""
        if self.form.upload is not None:
            with suppress(StoreUnavailable):  # a sweep finds it
                await self.state.stores.blobs.delete(self._folder)

    async def read(self) -> bytes:
        """The whole file, once more."""
        if self.form.image is None:
            return self.fetched or b""
        await self.form.image.seek(0)
        return await self.form.image.read()


def prefers(preference: str, headers: Sequence[str]) -> bool:
    """Whether a preference is among those of `Prefer` headers (RFC 7240)."""
    parts = _QUOTED.sub("", ",".join(headers)).split(",")
    return any(re.split("[;=]", part)[0].strip().lower() == preference for part in parts)


def negotiate(accept: str) -> str:
    """The media type to answer with: the one of the highest quality in `Accept`.

    Of equals the one that is named first, and JSON by default. As RFC 9110 says, the most specific
    range speaks for a type, and a quality of 0 forbids it.

    Raises:
        BadRequest: none of the accepted types can be produced.
    """
    qualities: dict[str, float] = {}  # of the ranges, in their order
    for part in _QUOTED.sub("", accept.strip() or "*/*").split(","):
        name, *parameters = (item.strip().lower() for item in part.split(";"))
        said = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        quality = float(said) if _QUALITY.fullmatch(said) else 1.0
        qualities[name] = max(quality, qualities.get(name, 0.0))

    def rank(media_type: str) -> tuple[float, int]:
        family = f"{media_type.partition('/')[0]}/*"
        name = next((name for name in (media_type, family, "*/*") if name in qualities), None)
        return (qualities[name], -[*qualities].index(name)) if name is not None else (0.0, 0)

    chosen = max((_JSON, _ZIP), key=rank)
    if not rank(chosen)[0]:
        raise BadRequest(f"Accept: {accept[:80]!r} allows neither {_JSON} nor {_ZIP}.")
    return chosen


async def _check_queue(state: State) -> None:
    """Return if one more job may wait.

    Raises:
        Overloaded: too many jobs are not finished: each keeps an upload on disk.
    """
    most = state.settings.max_queued_jobs
    if await state.stores.jobs.count_pending("upscale") >= most:
        raise Overloaded(f"{most} jobs are queued or running already.", retry_after=60)


async def _submit(
    state: State, upload: _Upload, fields: UpscaleRequest, prepared: Admitted, webhook: str | None
) -> JobStatus:
    """Store the upload and the job."""
    job_id = f"{JOB}{secrets.token_urlsafe(15)}"
    async with uploads_for(state.stores, job_id):
        async with state.service.drawing.slot():  # few whole files are in memory at once
            await state.stores.blobs.put(job_id, IMAGE, await upload.read())
        return await state.queue.submit(
            Job(
                id=job_id,
                kind="upscale",
                created_at=datetime.now(UTC),
                about={"webhook": webhook, **expected(prepared)},
                request=uploaded_request(fields, prepared.chosen.seed),
            )
        )


def _parts(result: Picture, media_type: str) -> tuple[str, ...]:
    """The files that an answer of this type carries."""
    if media_type == _JSON:
        return ()
    if not isinstance(result, Result):
        return (image_file(result),)
    more = {BELIEVED: result.believed.is_sent, TRUST_COG: result.links.trust_cog is not None}
    return (image_file(result), MASK, TRUST, *(name for name, is_sent in more.items() if is_sent))


async def _respond(result: Picture, files: Mapping[str, bytes], media_type: str) -> Response:
    document = result.model_dump_json().encode()
    headers = {"Content-Location": result.links.self}
    if media_type == _JSON:
        return Response(document, media_type=_JSON, headers=headers)
    parts = {**files, "result.json": document}
    headers["Content-Disposition"] = f'attachment; filename="{result.id}.zip"'
    content = await asyncio.to_thread(_zip, parts)  # a zip has checksums
    return Response(content, media_type=_ZIP, headers=headers)


def _zip(parts: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:  # PNGs are compressed already
        for name, data in parts.items():
            archive.writestr(name, data)
    return out.getvalue()
