"""POST /v1/results/{id}/catch: where a model rewrote a photograph most, from the truth."""

from __future__ import annotations

import io
from typing import Annotated

import numpy as np
from fastapi import File, Query, Request, UploadFile
from fastapi.responses import Response
from numpy.typing import NDArray
from PIL import Image

from trustscale_server.http.access import ClientDep, client_router
from trustscale_server.http.connection import while_connected
from trustscale_server.http.drawing import mask_at
from trustscale_server.http.openapi import file_response
from trustscale_server.http.problems import PICTURE_PROBLEMS, limited_responses
from trustscale_server.http.routes.results import ResultId
from trustscale_server.http.state import State, StateDep
from trustscale_server.images.decode import decode
from trustscale_server.images.encode import picture
from trustscale_server.images.limits import Limits
from trustscale_server.images.sandbox.client import decoding
from trustscale_server.monitoring.scoring import MAX_TRUTH_BYTES
from trustscale_server.pixels.lab import to_8_bit
from trustscale_server.platform.errors import BadImage, Conflict, NotFound
from trustscale_server.platform.tasks import shielded
from trustscale_server.serving.caught import Caught, caught, caught_card
from trustscale_server.serving.document import Result
from trustscale_server.serving.file_names import REST
from trustscale_server.serving.stored_answer import image_file, pixels_of, read_mask, stored_result

router = client_router("/v1/results")

_BYTES_PER_PIXEL = 96  # of the pictures, and of what is compared as float32


@router.post(
    "/{result_id}/catch",
    response_model=Caught,
    responses={
        200: {
            "description": "The place; with `card=true` a picture of 1200×630 that shows it.",
            "content": file_response("image/jpeg")[200]["content"],
        },
        **limited_responses("not-found", "conflict", *PICTURE_PROBLEMS),
    },
    max_body_size=MAX_TRUTH_BYTES,
)
async def catch_result(
    result_id: ResultId,
    request: Request,
    state: StateDep,
    _: ClientDep,
    image: Annotated[UploadFile, File(description="The true image, exactly of the output's size.")],
    card: Annotated[bool, Query(description="Whether to answer with the card.")] = False,
) -> Caught | Response:
    """Find the place that the model rewrote most, and whether it had been marked.

    Structures are compared where they can be seen, not squared errors. Nothing is stored. It counts
    as a request of the client.
    """
    await state.charge("requests")
    result = stored_result(await state.services.stores.results.document(result_id))
    if result.reduced_from is not None:
        raise Conflict(
            f"{result_id!r} was reduced: only a result that was made without `to` can be compared."
        )
    place, card_jpeg = await while_connected(request, _caught(state, result, image, card))
    return Response(card_jpeg, media_type="image/jpeg") if card else place


async def _caught(
    state: State, result: Result, image: UploadFile, card: bool
) -> tuple[Caught, bytes]:
    pixels = result.width * result.height
    async with state.context.slots.slot(_BYTES_PER_PIXEL * pixels):
        truth = await decoding(decode, image.file, Limits(MAX_TRUTH_BYTES, pixels))
        blob = state.services.stores.results.blob
        output, rest = await blob(result.id, image_file(result)), await blob(result.id, REST)
        mask = await mask_at(state, result, result.alpha)
        return await shielded(_compared, result, to_8_bit(truth.rgb), output, mask, rest, card)


def _compared(
    result: Result, truth: NDArray[np.uint8], image: bytes, mask: bytes, rest: bytes, card: bool
) -> tuple[Caught, bytes]:
    with Image.open(io.BytesIO(image)) as file:
        output = to_8_bit(pixels_of(file))[..., :3]
    if truth.shape != output.shape:
        raise BadImage(
            f"The truth is {truth.shape[1]}×{truth.shape[0]}, the output is "
            f"{output.shape[1]}×{output.shape[0]}; both must have one size."
        )
    trusted = read_mask(mask)[0] if result.guarantee.promised else None
    place = caught(truth, output, trusted)
    if place is None:
        raise NotFound("Nothing was rewritten that can be seen: this model was right here.")
    if not card:
        return place, b""
    with Image.open(io.BytesIO(rest)) as file:
        x = np.asarray(file.convert("RGB"))
    card_pixels = caught_card(place, x, output, truth, upscaler=result.upscaler)
    return place, picture(card_pixels, "jpeg", quality=90)
