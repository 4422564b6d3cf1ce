"""POST /v1/verify: whether a file has our mark, and whether its pixels are still the same."""

from __future__ import annotations

from typing import Annotated

from fastapi import File, Request, UploadFile

from trustscale_server.http.access import ClientDep, client_router
from trustscale_server.http.connection import while_connected
from trustscale_server.http.problems import PICTURE_PROBLEMS, limited_responses
from trustscale_server.http.state import StateDep
from trustscale_server.images.sandbox.client import decoding
from trustscale_server.proof.signature import NOBODY, signers_of
from trustscale_server.proof.verify import VERIFIED_LIMITS, Verification, verify

router = client_router()


@router.post(
    "/v1/verify",
    responses=limited_responses(*PICTURE_PROBLEMS),
    max_body_size=VERIFIED_LIMITS.max_bytes + 2**16,
)
async def verify_file(
    request: Request,
    state: StateDep,
    _: ClientDep,
    image: Annotated[UploadFile, File(description="A picture or a card, as it was received.")],
) -> Verification:
    """Say what a picture is, whether it was changed, who signed it, and its promise.

    Nothing is stored. It counts as a request of the client.
    """
    await state.charge("requests")
    credentials = state.context.credentials
    known = NOBODY if credentials is None else signers_of(credentials.certificate.decode())

    async def check() -> Verification:
        async with state.context.decoding.held():
            return await decoding(verify, image.file, VERIFIED_LIMITS, known=known)

    return await while_connected(request, check())
