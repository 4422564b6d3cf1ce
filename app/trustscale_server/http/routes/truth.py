"""POST /v1/results/{id}/truth: a served mask is compared with what turned out to be true."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import File, Request, Response, UploadFile

from trustscale_server.http.access import ClientDep, client_router
from trustscale_server.http.connection import while_connected
from trustscale_server.http.problems import PICTURE_PROBLEMS, limited_responses
from trustscale_server.http.routes.results import ResultId
from trustscale_server.http.state import State, StateDep
from trustscale_server.monitoring.feedback import TruthReport, counting
from trustscale_server.monitoring.scoring import (
    MAX_TRUTH_BYTES,
    ScoredMask,
    Served,
    footprint_of,
    read_truth,
    score_mask,
)
from trustscale_server.platform.errors import Conflict
from trustscale_server.platform.tasks import shielded
from trustscale_server.serving.document import INPUT, Result, from_store
from trustscale_server.serving.file_names import MASK, TRUST
from trustscale_server.serving.picture_format import chosen_format
from trustscale_server.serving.stored_answer import image_file, stored_result
from trustscale_server.stores.monitor_states import Label

router = client_router("/v1/results", "bad-request", "not-found", "unauthorized")


@router.post(
    "/{result_id}/truth",
    status_code=201,
    response_model=TruthReport,
    responses={
        200: {"description": "The same truth was sent before; the answer is the first one."},
        **limited_responses("not-found", "conflict", *PICTURE_PROBLEMS),
    },
    max_body_size=MAX_TRUTH_BYTES,
)
async def tell_truth(
    result_id: ResultId,
    request: Request,
    response: Response,
    state: StateDep,
    _: ClientDep,
    image: Annotated[
        UploadFile | None, File(description="The true image, exactly of the output's size.")
    ] = None,
    label: Annotated[
        UploadFile | None,
        File(description="For labels of people: not black where the meaning differs."),
    ] = None,
) -> TruthReport:
    """Compare the served mask with the truth, for the monitor.

    The calibration stays as it is.
    """
    await state.charge("requests")
    result = stored_result(await state.services.stores.results.document(result_id))
    calibration = await state.services.calibrations.stored(result.calibration)
    subset = result.subset_of(calibration)
    cost = footprint_of(result, subset)

    async def measure() -> ScoredMask:
        async with state.context.slots.slot(cost):
            served = await _served(state, result)
            files = [None if upload is None else upload.file for upload in (image, label)]
            pixels = await read_truth(subset, served, image=files[0], label=files[1])
            return await shielded(score_mask, subset, served, pixels)

    scored = await while_connected(request, measure())
    count = counting(scored, time.time())
    stored = await state.services.monitor.change(calibration.id, count, labels=result_id)
    if stored is not None:
        return stored
    earlier = await state.services.monitor.store.label(calibration.id, result_id)
    response.status_code = 200
    return _first_report(earlier, scored.digest, result_id)


async def _served(state: State, result: Result) -> Served:
    """Read the files that were served.

    Raises:
        Conflict: the picture was compressed or reduced after its mask was made.
    """
    if not chosen_format(result.format, result.quality).is_lossless:
        raise Conflict(
            f"The picture of {result.id!r} was compressed as {result.format}; only results with "
            "format=png, tiff, or webp of quality 100 can be measured."
        )
    if result.reduced_from is not None:
        raise Conflict(
            f"{result.id!r} was reduced after its mask was made; only results without `to` can be "
            "measured."
        )
    blob = state.services.stores.results.blob
    _, upload = from_store(await state.services.stores.results.document(result.id))
    if upload is None:
        upload = int.from_bytes(await blob(result.id, INPUT), "little")
    return Served(
        result,
        await blob(result.id, image_file(result)),
        await blob(result.id, MASK),
        await blob(result.id, TRUST),
        upload,
    )


def _first_report(earlier: Label | None, digest: str, result_id: str) -> TruthReport:
    """The answer to the first report of this truth.

    Raises:
        Conflict: another truth was sent first.
    """
    if earlier is None or earlier.digest != digest:
        raise Conflict(f"Another truth about {result_id!r} was sent before; the first one stays.")
    return TruthReport.model_validate_json(earlier.record)
