"""POST /v1/results/{id}/truth: the truth about a result, against which its mask is measured."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, File, Request, Response, UploadFile

from app.api.clients import client_name, while_connected
from app.api.deps import ClientDep, State, StateDep
from app.api.problems import limited_responses
from app.api.results import ResultId
from app.errors import Conflict
from app.serving.admission import truth_footprint
from app.serving.answer import INPUT, MASK, TRUST, Result, form_of, image_file, stored_result
from app.stores.base import Label
from app.system import shielded
from app.watch.monitor import watched_part
from app.watch.truth import (
    MAX_TRUTH_BYTES,
    FeedbackPoint,
    Score,
    Served,
    Truth,
    counting,
    read_truth,
    score,
)

router = APIRouter(prefix="/v1/results", tags=["upscale"])

_PROBLEMS = (
    "not-found", "conflict", "bad-image", "decode-limit", "bad-request", "image-too-large",
    "unsupported-media",
)  # fmt: skip


@router.post(
    "/{result_id}/truth",
    status_code=201,
    response_model=Truth,
    responses={
        200: {"description": "The same truth was sent before; the answer is the first one."},
        **limited_responses(*_PROBLEMS),
    },
    max_body_size=MAX_TRUTH_BYTES,
)
async def tell_truth(
    result_id: ResultId,
    request: Request,
    response: Response,
    state: StateDep,
    key: ClientDep,
    image: Annotated[
        UploadFile | None, File(description="The true image, exactly of the output's size.")
    ] = None,
    label: Annotated[
        UploadFile | None,
        File(description="For labels of people: not black where the meaning differs."),
    ] = None,
) -> Truth:
    """Measure the served mask against the truth and count it; the calibration stays as it is."""
    await state.limits.take(client_name(request, key), "requests")
    result = stored_result(await state.stores.results.document(result_id))
    whole = await state.calibrations.stored(result.calibration)
    calibration = result.part_of(whole)
    cost = truth_footprint(result.height, result.width, calibration.pipeline)

    async def measure() -> Score:
        async with state.service.slots.slot(cost):
            served = await _served(state, result)
            files = [None if upload is None else upload.file for upload in (image, label)]
            pixels = await read_truth(calibration, served, image=files[0], label=files[1])
            return await shielded(score, calibration, served, pixels)

    scored = await while_connected(request, measure())
    watched = watched_part(whole, result).id
    count = counting(scored, time.time())
    stored = await state.monitor.change(watched, count, labels=result_id)
    if stored is not None:
        return stored
    earlier = await state.monitor.store.label(watched, result_id)
    response.status_code = 200
    return _same(earlier, scored.digest, result_id)


async def _served(state: State, result: Result) -> Served:
    """The files that were served.

    Raises:
        Conflict: the picture was compressed or reduced after its mask was made.
    """
    if not form_of(result.format, result.quality).is_lossless:
        raise Conflict(
            f"The picture of {result.id!r} was compressed as {result.format}; only results with "
            "format=png, tiff, or webp of quality 100 can be measured."
        )
    if result.reduced_from is not None:
        raise Conflict(
            f"{result.id!r} was reduced after its mask was made; only results without `to` can be "
            "measured."
        )
    blob = state.stores.results.blob
    return Served(
        result,
        await blob(result.id, image_file(result)),
        await blob(result.id, MASK),
        await blob(result.id, TRUST),
        int.from_bytes(await blob(result.id, INPUT), "little"),
    )


def _same(earlier: Label | None, digest: str, result_id: str) -> Truth:
    """The first answer.

    Raises:
        Conflict: another truth was sent first.
    """
    if earlier is None or earlier.digest != digest:
        raise Conflict(f"Another truth about {result_id!r} was sent before; it stays.")
    return FeedbackPoint.model_validate_json(earlier.record).truth
