"""Stored results: the document again, the files, and masks for other α without generating."""

from __future__ import annotations

import asyncio
import io
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Path, Query
from fastapi.responses import Response
from PIL import Image

from app.api.deps import ClientDep, State, StateDep
from app.api.problems import problem_responses
from app.images.encode import png_mask
from app.serving.answer import Result, parse_alpha
from app.serving.files import IMAGE, MASK, SIGMA, TRUST, png_overlay, png_text, sigma_map

router = APIRouter(
    prefix="/v1/results", tags=["upscale"], responses=problem_responses("bad-request")
)

ResultId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Alpha = Annotated[str | None, Query(description="Another α than the result's own.")]

_PNG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {}}, "description": "A PNG file."}
}


@router.get(
    "/{result_id}",
    response_model=Result,
    responses=problem_responses("not-found", "unauthorized"),
)
async def read_result(result_id: ResultId, state: StateDep, _: ClientDep) -> Response:
    """The JSON answer again."""
    return Response(await state.stores.results.document(result_id), media_type="application/json")


@router.get(
    "/{result_id}/{part}.png",
    response_class=Response,
    responses={**_PNG, **problem_responses("not-found", "bad-alpha", "unauthorized")},
)
async def read_part(
    result_id: ResultId,
    part: Literal["image", "mask", "trust", "overlay"],
    state: StateDep,
    _: ClientDep,
    alpha: Alpha = None,
) -> Response:
    """A file of the result; `mask` and `overlay` take another α."""
    if part == "image":
        data = await state.stores.results.blob(result_id, IMAGE)
    elif part == "trust":
        data = await state.stores.results.blob(result_id, TRUST)
    else:
        async with state.service.slots.desk:  # few images are decoded at the same time
            data = await _masked(state, result_id, part, alpha)
    return Response(data, media_type="image/png")


async def _masked(
    state: State, result_id: str, part: Literal["mask", "overlay"], alpha_text: str | None
) -> bytes:
    results = state.stores.results
    result = Result.model_validate_json(await results.document(result_id))
    alpha = parse_alpha(alpha_text, result.alpha)
    if alpha == result.alpha:
        stored = await results.blob(result_id, MASK)
        if part == "mask":
            return stored
        mask = await asyncio.to_thread(lambda: np.asarray(Image.open(io.BytesIO(stored))))
        text = None
    else:
        calibration = await state.calibrations.get(result.calibration)
        sigma = sigma_map(await results.blob(result_id, SIGMA), result)
        of_group = calibration.of_group(result.group)
        mask = await asyncio.to_thread(lambda: of_group.curve.mask(sigma, alpha))
        text = png_text(calibration, alpha, result.group)
        if part == "mask":
            return await asyncio.to_thread(png_mask, mask, text)
    image = await results.blob(result_id, IMAGE)
    return await asyncio.to_thread(png_overlay, image, mask, text)
