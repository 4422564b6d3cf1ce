"""POST /v1/batches: pictures that belong together, to which the masks of each are adapted."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import File, Request, UploadFile

from trustscale_server.http.access import ClientDep, client_router
from trustscale_server.http.connection import while_connected
from trustscale_server.http.problems import PICTURE_PROBLEMS, limited_responses
from trustscale_server.http.state import State, StateDep
from trustscale_server.images.decoding.decode import decode
from trustscale_server.images.sandbox.client import decoding
from trustscale_server.kinds.features import InputFeatures, look_at
from trustscale_server.platform.errors import BadInput
from trustscale_server.platform.tasks import shielded
from trustscale_server.serving.batch import MAX_UPLOADS, Batch

router = client_router()

_MAX_BYTES: Final = 256 * 2**20


@router.post(
    "/v1/batches",
    response_model=Batch,
    responses=limited_responses(*PICTURE_PROBLEMS),
    max_body_size=_MAX_BYTES,
    form_limits={"max_files": MAX_UPLOADS, "max_fields": 1, "max_part_size": 4096},
)
async def make_batch(
    request: Request,
    state: StateDep,
    _: ClientDep,
    images: Annotated[list[UploadFile], File(description="6 to 64 pictures, as they are sent.")],
) -> Batch:
    """Describe pictures that belong together, such as a folder of scans.

    Requests that name the batch get masks that are smaller where pictures like these lose more.
    Their promise stays the same. Nothing is generated, and no picture is kept: the numbers that
    describe them are, for a week. It counts as a request of the client.
    """
    await state.charge("requests")
    return await while_connected(request, _described(state, images))


async def _described(state: State, images: list[UploadFile]) -> Batch:
    features = [
        await _features(state, image, number) for number, image in enumerate(images, start=1)
    ]
    return await state.context.batches.make(features)


async def _features(state: State, image: UploadFile, number: int) -> InputFeatures:
    """The features of one picture. Raises BadInput, which names its number."""
    async with state.context.decoding.held():
        try:
            decoded = await decoding(decode, image.file, state.context.limits)
        except BadInput as error:
            error.detail = f"Picture {number}: {error.detail}"
            raise
    return await shielded(look_at, decoded.rgb, decoded.compression)
