"""POST /v1/upscale: an image becomes an upscaled image with its trust mask.

POST /v1/uploads: a link for sending the image straight to the object store.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, BinaryIO, Final, Literal, cast

from fastapi import APIRouter, File, Form, Header, Request, UploadFile
from fastapi.responses import Response
from pydantic import BaseModel, Field

from trustscale_server.http.answer import files_of, respond
from trustscale_server.http.connection import while_connected
from trustscale_server.http.idempotency import KEY_KEPT_S, IdempotencyKey, StoredResponse
from trustscale_server.http.middleware import note
from trustscale_server.http.negotiation import (
    FORM_OF_TYPE,
    JSON,
    ZIP,
    format_of,
    negotiate,
    prefers,
)
from trustscale_server.http.openapi import BINARY
from trustscale_server.http.problems import limited_responses, problem_responses
from trustscale_server.http.routes.jobs import Webhook, job_accepted
from trustscale_server.http.routes.results import DetailQuery
from trustscale_server.http.state import ClientDep, ClientRoute, State, StateDep, require_admin
from trustscale_server.images.encode import FormName
from trustscale_server.images.sandbox.client import File as ImageFile
from trustscale_server.jobs.document import JobOut, shown_job
from trustscale_server.platform.errors import BadRequest, NoDirectUploads, NotFound, Overloaded
from trustscale_server.platform.fair import current_client
from trustscale_server.serving.admit import Admitted
from trustscale_server.serving.document import (
    Picture,
    Result,
    Unmasked,
)
from trustscale_server.serving.job import expected_job
from trustscale_server.serving.pictures import stored_picture
from trustscale_server.serving.request import UpscaleOptions, UpscaleRequest
from trustscale_server.stores.base import (
    ENLARGED,
    IMAGE,
    Job,
    JobStatus,
    StoreUnavailable,
    direct_folder,
    uploads_for,
)
from trustscale_server.stores.jobs import JOB_PREFIX

router = APIRouter(route_class=ClientRoute, tags=["upscale"])

_LINK_S: Final = 900.0

_PROBLEMS = (
    "no-promise", "no-calibration", "calibration-mismatch", "bad-image", "decode-limit",
    "bad-alpha", "bad-group", "bad-request", "image-too-large", "too-slow", "unsupported-media",
    "upscaler-unavailable",
    "upscaler-failed", "degenerate-samples", "not-found",
)  # fmt: skip
_PICTURES = ("image", "image_url", "upload")
_ASYNC = {"Preference-Applied": "respond-async"}


def _header(text: str, kind: str = "string") -> dict[str, Any]:
    return {"description": f"With a picture: {text}", "schema": {"type": kind}}


_ABOUT_THE_PICTURE: Final = {
    "Link": _header("the result document (`describedby`) and the mask (`related`)."),
    "Trustscale-Promised": _header("whether anything is promised of it.", "boolean"),
    "Trustscale-Promise": _header("what is promised, or why nothing is, percent-encoded."),
    "Trustscale-Alpha": _header("α, the largest expected error in the mask.", "number"),
    "Trustscale-Trusted-Fraction": _header("how much of it is trusted.", "number"),
    "Trustscale-Warnings": _header("the number of warnings in the result document.", "integer"),
}


class UpscaleForm(UpscaleOptions):
    """The picture, and the options of its upscaling."""

    image: Annotated[
        UploadFile | None,
        File(
            description="PNG, JPEG, WebP, AVIF, TIFF, BMP or still GIF; HEIC and JPEG XL with the "
            "extra `formats`."
        ),
    ] = None
    enlarged: Annotated[
        UploadFile | None,
        File(
            description="What somebody made of the image, for an upscaler of the kind `supplied`."
        ),
    ] = None
    image_url: Annotated[
        str | None,
        Form(
            max_length=2000,
            description="The address of the image, in place of `image`, on a host that the "
            "service allows.",
        ),
    ] = None
    upload: Annotated[
        str | None,
        Form(
            pattern=r"^[A-Za-z0-9_-]{1,64}$",
            description="The id of a file that was sent to a link of `POST /v1/uploads`, in "
            "place of `image`.",
        ),
    ] = None
    webhook: Webhook = None
    calibration: Annotated[
        str | None,
        Form(
            max_length=200,
            description="For an admin: the id of a calibration that answers in place of the active "
            "ones, to try it before it is activated.",
        ),
    ] = None


@router.post(
    "/v1/upscale",
    response_model=Result | Unmasked,
    responses={
        200: {
            "description": "The result; with `Accept: application/zip` image.png, mask.png, "
            "trust.png and result.json together; with `Accept: image/…` the picture alone, in that "
            "format.",
            "content": {kind: {"schema": BINARY} for kind in (ZIP, *FORM_OF_TYPE)},
            "headers": _ABOUT_THE_PICTURE,
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
    await _check_once(request)
    client = current_client.get()
    results = state.stores.results
    keep_s = None if idempotency_key is None else KEY_KEPT_S
    options = form.chosen() | format_of(media_type, form) | await _tried(request, state, form)
    fields = UpscaleRequest(
        **options,
        client=client,
        key=key,
        keep_s=keep_s,
        has_enlarged=form.enlarged is not None,
    )
    webhook = form.webhook
    upload = _Upload(form, state, key)
    as_job = prefers("respond-async", request.headers.getlist("prefer"))
    upload.raise_if_unusable(as_job=as_job)

    async def check_room(cost: int = 0, upscaler: str | None = fields.upscaler) -> None:
        if as_job:
            await _check_queue(state)
        else:
            state.service.context.raise_if_full(upscaler, cost)

    async def read() -> ImageFile:
        if not as_job:  # again, since others came meanwhile and decoding costs time
            state.service.context.raise_if_full(fields.upscaler)
            state.service.context.decoding.raise_if_full()
        # Only now: requests with other faults do not count.
        await state.limits.take(client, "requests")
        return await upload.open(again=as_job)

    async def make() -> StoredResponse:
        await check_room()
        prepared = await while_connected(
            request,
            state.service.prepare(read, fields, _enlarged_of(form), as_job=as_job),
        )
        note(request, upscaler=prepared.chosen.upscaler.name)
        await check_room(prepared.footprint, prepared.chosen.upscaler.name)
        await state.limits.take(client, "pixels", math.prod(prepared.size))
        if as_job:
            job = await _submit(state, upload, fields, prepared, webhook)
            note(request, job=job.id)
            await upload.forget()
            if idempotency_key is None and await request.is_disconnected():
                # The client does not know its id, and would pay for nothing.
                await state.queue.cancel(job.id)
            return StoredResponse(job.id, job_accepted(job, **_ASYNC))
        has_begun = asyncio.Event()
        answer = await while_connected(
            request,
            state.service.run(prepared, on_begin=has_begun.set),
            # Paid results are kept, so a retry with the same key gets them.
            finishes=lambda: idempotency_key is not None and has_begun.is_set(),
        )
        took = {f"{name}_ms": round(ms, 1) for name, ms in answer.picture.timings_ms.items()}
        note(request, **took, **answer.picture.promise())
        await upload.forget()
        files = {name: answer.files[name] for name in files_of(answer.picture, media_type)}
        answered = await respond(answer.picture, files, media_type, detail)
        return StoredResponse(answer.picture.id, answered)

    async def recall(made_id: str) -> Response:
        if made_id.startswith(JOB_PREFIX):
            job = await state.stores.jobs.get(made_id)
            shown = await shown_job(state.stores, job, state.settings.path_prefix)
            return job_accepted(shown, **_ASYNC)
        result = stored_picture(await results.document(made_id))
        _check_format(result, fields.format)
        names = files_of(result, media_type)
        files = {name: await results.file(made_id, name) for name in names}
        return await respond(result, files, media_type, detail)

    return await state.idempotency.once(request, client, make, recall)


async def _check_once(request: Request) -> None:
    """Raise BadRequest where a form sends a file twice, of which one would be ignored."""
    names = Counter(name for name, _ in (await request.form()).multi_items())
    for name in ("image", "enlarged"):
        if names[name] > 1:
            reason = f"one file is needed, and {names[name]} were sent"
            raise BadRequest(f"{name}: {reason}.", fields=[{"field": name, "reason": reason}])


def _enlarged_of(form: UpscaleForm) -> Callable[[], Awaitable[ImageFile]] | None:
    """The file that somebody enlarged, once it may be decoded."""
    enlarged = form.enlarged
    if enlarged is None:
        return None

    async def opened() -> ImageFile:
        return enlarged.file

    return opened


async def _tried(request: Request, state: State, form: UpscaleForm) -> dict[str, str]:
    """The calibration that an admin tries, and its upscaler.

    Raises:
        Unauthorized, Forbidden: it is no admin.
        NotFound: no such calibration.
    """
    if not form.calibration:
        return {}
    require_admin(request, state)
    calibration = await state.calibrations.get(form.calibration)
    return {"calibration": calibration.id, "upscaler": calibration.manifest.upscaler}


class UploadOut(BaseModel):
    """How to send a file, and its name afterwards."""

    upload: str = Field(
        description="What to send as `upload` to `POST /v1/upscale`, in place of `image`, "
        "within a day."
    )
    method: Literal["PUT"] = "PUT"
    url: str = Field(
        description="The URL; anybody who has it may store this one file until it expires."
    )
    headers: dict[str, str] = Field(
        description="The headers to send with the file, without a key of this service."
    )
    expires_at: datetime
    max_bytes: int = Field(description="The size in bytes above which files are not upscaled.")


@router.post(
    "/v1/uploads", status_code=201, responses=limited_responses("no-direct-uploads", "bad-request")
)
async def create_upload(
    state: StateDep,
    key: ClientDep,
    idempotency_key: IdempotencyKey = None,
) -> UploadOut:
    """Make a link for sending a large picture straight to the object store.

    It counts as a request of the client.
    """
    client = current_client.get()
    await state.limits.take(client, "requests")
    upload = secrets.token_urlsafe(15)
    if idempotency_key is not None:
        name = hashlib.sha256(f"upload\0{client}\0{idempotency_key}".encode()).hexdigest()
        upload = (
            await state.stores.claims.claim(name, upload.encode(), seconds=KEY_KEPT_S)
        ).decode()
    link = None
    if state.settings.presigned_links:
        folder = direct_folder(key, upload)
        link = await state.stores.blobs.upload_link(folder, IMAGE, seconds=_LINK_S)
    if link is None:
        raise NoDirectUploads(
            "This service has no object store that clients may use: send the file as `image`."
        )
    return UploadOut(
        upload=upload,
        url=link.url,
        headers=link.headers,
        expires_at=datetime.now(UTC) + timedelta(seconds=_LINK_S),
        max_bytes=state.settings.max_upload_bytes,
    )


@dataclass(slots=True)
class _Upload:
    """The picture of a form, or of the place that the form names; `key` is the client's."""

    form: UpscaleForm
    state: State
    key: str | None
    fetched: ImageFile | None = None

    def raise_if_unusable(self, *, as_job: bool) -> None:
        """Return if there is exactly one, and it and the webhook are allowed. Raises BadRequest."""
        sent = [name for name in _PICTURES if getattr(self.form, name) is not None]
        if len(sent) > 1:
            raise BadRequest(f"Send {' or '.join(sent)}, not both.")
        if not sent:
            reason = "this is missing; send a form with the file, with curl: -F image=@FILE"
            raise BadRequest(f"image: {reason}.", fields=[{"field": "image", "reason": reason}])
        if self.form.image_url is not None:
            self.state.settings.image_sources.raise_if_refused()
        if self.form.webhook is not None:
            self.state.settings.webhooks.raise_if_refused(self.form.webhook, is_job=as_job)

    async def open(self, *, again: bool) -> ImageFile:
        """The file; `again`: a fetched one is kept for `read`.

        Raises BadRequest, ImageTooLarge, NotFound.
        """
        if self.form.image is not None:
            return self.form.image.file
        async with self.state.service.context.fetching.held():
            file = await self._fetch()
        self.fetched = file if again else None
        return file

    async def _fetch(self) -> ImageFile:
        settings = self.state.settings
        if self.form.upload is None:
            url = self.form.image_url or ""
            sources, most = settings.image_sources, settings.max_upload_bytes
            return cast("BinaryIO", await sources.fetch(url, most))
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
        """Remove an upload that has been used from the object store."""
        if self.form.upload is not None:
            with suppress(StoreUnavailable):  # a sweep will remove it
                await self.state.stores.blobs.delete(self._folder)

    async def read(self) -> bytes:
        """The whole file again."""
        if self.form.image is not None:
            await self.form.image.seek(0)
            return await self.form.image.read()
        file = self.fetched or b""
        if isinstance(file, bytes):
            return file
        await asyncio.to_thread(file.seek, 0)
        return await asyncio.to_thread(file.read)


def _check_format(made: Picture, asked: FormName) -> None:
    """Raise BadRequest if an earlier answer's picture has another format than is asked for."""
    if made.format != asked:
        raise BadRequest(
            f"The answer to this Idempotency-Key has a picture of format={made.format}."
        )


async def _check_queue(state: State) -> None:
    """Return if one more job of this client may wait.

    It may have as many as there are places left: half of all alone, a third beside another one that
    wants more, and so on. So a place is left for whoever comes.

    Raises:
        Overloaded: too many are unfinished; each keeps an upload on disk.
    """
    most = state.settings.max_queued_jobs
    pending = await state.stores.jobs.pending_by_client("upscale")
    own, free = pending[current_client.get()], most - pending.total()
    if free <= 0:
        raise Overloaded(f"{most} jobs are queued or running already.", retry_after=60)
    if own >= free:
        raise Overloaded(
            f"{own} jobs of yours are queued or running already; the {free} places that are left "
            f"are for others.",
            retry_after=60,
        )


async def _submit(
    state: State, upload: _Upload, fields: UpscaleRequest, prepared: Admitted, webhook: str | None
) -> JobStatus:
    job_id = f"{JOB_PREFIX}{secrets.token_urlsafe(15)}"
    async with uploads_for(state.stores, job_id):
        async with state.service.context.drawing.slot():  # bounds the whole files in memory
            await state.stores.blobs.put(job_id, IMAGE, await upload.read())
            if (enlarged := upload.form.enlarged) is not None:
                await enlarged.seek(0)
                await state.stores.blobs.put(job_id, ENLARGED, await enlarged.read())
        return await state.queue.submit(
            Job(
                id=job_id,
                kind="upscale",
                created_at=datetime.now(UTC),
                about={
                    "webhook": webhook,
                    "key": fields.key,
                    "client": fields.client,
                    **expected_job(prepared),
                },
                request=fields.model_dump(),
            )
        )
