"""POST /v1/uploads: a link for sending an image straight to the object store."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from pydantic import BaseModel, Field

from trustscale_server.http.access import ClientDep, client_router
from trustscale_server.http.idempotency import KEY_KEPT_S, IdempotencyKey
from trustscale_server.http.problems import limited_responses
from trustscale_server.http.state import StateDep
from trustscale_server.platform.errors import NoDirectUploads
from trustscale_server.platform.fair import current_client
from trustscale_server.stores.uploads import IMAGE, direct_folder

router = client_router()

_LINK_S: Final = 900.0


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
    await state.charge("requests")
    upload = secrets.token_urlsafe(15)
    if idempotency_key is not None:
        name = f"upload\0{current_client.get()}\0{idempotency_key}"
        claim = hashlib.sha256(name.encode()).hexdigest()
        claims = state.services.stores.claims
        claimed = await claims.claim(claim, upload.encode(), seconds=KEY_KEPT_S)
        upload = claimed.decode()
    link = None
    if state.services.settings.presigned_links:
        folder = direct_folder(key, upload)
        link = await state.services.stores.blobs.upload_link(folder, IMAGE, seconds=_LINK_S)
    if link is None:
        raise NoDirectUploads(
            "This service has no object store that clients may use: send the file as `image`."
        )
    return UploadOut(
        upload=upload,
        url=link.url,
        headers=link.headers,
        expires_at=datetime.now(UTC) + timedelta(seconds=_LINK_S),
        max_bytes=state.services.settings.max_upload_bytes,
    )
