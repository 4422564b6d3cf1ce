"""POST /v1/results/{id}/truth: a served mask is compared with what turned out to be true.

The losses are summed up by /metrics, never by the calibration: pairs that somebody chose because
they looked bad, or good, would bias it.
"""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import File, Request, UploadFile
from pydantic import Field

from trustscale_server.http.access import ClientDep, client_router
from trustscale_server.http.connection import while_connected
from trustscale_server.http.problems import PICTURE_PROBLEMS, limited_responses
from trustscale_server.http.routes.results import ResultId
from trustscale_server.http.state import State, StateDep
from trustscale_server.monitoring.scoring import (
    MAX_TRUTH_BYTES,
    Measured,
    Served,
    footprint_of,
    read_truth,
    score_mask,
)
from trustscale_server.platform.errors import Conflict
from trustscale_server.platform.tasks import shielded
from trustscale_server.serving.document import Result
from trustscale_server.serving.file_names import MASK, TRUST
from trustscale_server.serving.picture_format import chosen_format
from trustscale_server.serving.stored_answer import image_file, stored_result

router = client_router("/v1/results", "bad-request", "not-found", "unauthorized")


class TruthReport(Measured):
    """What the truth says about one result."""

    counted: bool = Field(
        description="Whether /metrics counts it: the first truth about a result, if something was "
        "promised of it."
    )


@router.post(
    "/{result_id}/truth",
    responses=limited_responses("not-found", "conflict", *PICTURE_PROBLEMS),
    max_body_size=MAX_TRUTH_BYTES,
)
async def tell_truth(
    result_id: ResultId,
    request: Request,
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
    """Compare the served mask with the truth.

    The calibration stays as it is.
    """
    await state.charge("requests")
    result = stored_result(await state.services.stores.results.document(result_id))
    calibration = await state.services.calibrations.stored(result.calibration)
    subset = result.subset_of(calibration)
    cost = footprint_of(result, subset)

    async def measure() -> Measured:
        async with state.context.slots.slot(cost):
            served = await _served(state, result)
            files = [None if upload is None else upload.file for upload in (image, label)]
            pixels = await read_truth(subset, served, image=files[0], label=files[1])
            return await shielded(score_mask, subset, served, pixels)

    measured = await while_connected(request, measure())
    is_counted = result.guarantee.promised and await _is_first(state, result_id)
    if is_counted:
        labels = (result.upscaler, calibration.id)
        state.metrics.observe("truth_loss", measured.loss, *labels)
        state.metrics.count("truth_alpha", *labels, by=measured.alpha)
    return TruthReport(**dict(measured), counted=is_counted)


async def _is_first(state: State, result_id: str) -> bool:
    """Whether no truth about a result was counted yet, also by another process."""
    mine = secrets.token_bytes(16)
    seconds = state.services.settings.result_ttl_s
    claims = state.services.stores.claims
    return await claims.claim(f"truth:{result_id}", mine, seconds=seconds) == mine


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
    return Served(
        result,
        await blob(result.id, image_file(result)),
        await blob(result.id, MASK),
        await blob(result.id, TRUST),
    )
