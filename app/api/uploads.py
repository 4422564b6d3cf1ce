"""POST /v1/uploads: a link by which a file gets into the object store past this service."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Header, Request
from pydantic import BaseModel, Field

from app.api.clients import client_name
from app.api.deps import ClientDep, StateDep
from app.api.idempotency import HEADER
from app.api.problems import problem_responses
from app.errors import NoDirectUploads
from app.stores.uploads import IMAGE, direct_folder

LINK_S: Final = 900.0

router = APIRouter(tags=["upscale"])


class UploadOut(BaseModel):
    """How to send a file, and what to call it afterwards."""

    upload: str = Field(description="Of `POST /v1/upscale`, in place of `image`, within a day.")
    method: Literal["PUT"] = "PUT"
    url: str = Field(description="Whoever has it may store this one file until it expires.")
    headers: dict[str, str] = Field(description="To be sent with the file, and no key of ours.")
    expires_at: datetime
    max_bytes: int = Field(description="What is larger is not upscaled.")


@router.post(
    "/v1/uploads",
    status_code=201,
    responses={
        **problem_responses("no-direct-uploads", "bad-request", "unauthorized", "overloaded"),
        **problem_responses("overloaded", status=429),
    },
)
async def create_upload(
    request: Request,
    state: StateDep,
    key: ClientDep,
    idempotency_key: Annotated[
        str | None,
        Header(
            alias=HEADER,
            min_length=1,
            max_length=255,
            description="Sent again with the same key, it names the same upload by a fresh link.",
        ),
    ] = None,
) -> UploadOut:
    """A link into the object store, which counts as a request of the client."""
    client = client_name(request, key)
    await state.limits.take(client, "requests")
    upload = secrets.token_urlsafe(15)
    if idempotency_key is not None:
        name = hashlib.sha256(f"upload\0{client}\0{idempotency_key}".encode()).hexdigest()
        kept_s = state.settings.idempotency_ttl_s
        upload = (await state.stores.claims.claim(name, upload.encode(), seconds=kept_s)).decode()
    link = None
    if state.settings.presigned_links:
        folder = direct_folder(key, upload)
        link = await state.stores.blobs.upload_link(folder, IMAGE, seconds=LINK_S)
    if link is None:
        raise NoDirectUploads(
            "This service has no object store that clients may use: send the file as `image`."
        )
    return UploadOut(
        upload=upload,
        url=link.url,
        headers=link.headers,
        expires_at=datetime.now(UTC) + timedelta(seconds=LINK_S),
        max_bytes=state.settings.max_upload_bytes,
    )
