"""Stored results: document and files, also for another α or in another format."""

from __future__ import annotations

import json
from collections.abc import Coroutine
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Annotated, Any, Literal

from fastapi import Path, Query, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response

from trustscale_server.http import drawing
from trustscale_server.http.access import ClientDep, client_router
from trustscale_server.http.connection import while_connected
from trustscale_server.http.openapi import file_response
from trustscale_server.http.problems import limited_responses
from trustscale_server.http.state import State, StateDep
from trustscale_server.http.streamed import StreamedFile
from trustscale_server.images.encoding.encode import PICTURE_FORMATS, FormatName
from trustscale_server.serving.added import RHO
from trustscale_server.serving.document import Detail, Result, Unmasked, in_detail
from trustscale_server.serving.file_names import MASK, TRUST, TRUST_COG
from trustscale_server.serving.stored_answer import image_file, stored_picture, stored_result

router = client_router("/v1/results", "bad-request", "not-found", "unauthorized")

ResultId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Alpha = Annotated[
    float | None, Query(ge=0, allow_inf_nan=False, description="An α in place of the result's own.")
]

DetailQuery = Annotated[
    Detail,
    Query(
        description="`full` adds the threshold, and of the guarantee its bound, what would void "
        "it, and members that are null."
    ),
]

_Part = Literal["mask", "trust", "overlay", "believed", "added", "safe"]
_Rho = Annotated[
    float | None,
    Query(gt=0, lt=1, description="The share of what holds up that may be invented."),
]

_REDIRECT: Any = {307: {"description": "The object store has the file, for some minutes."}}


@router.get("/{result_id}", response_model=Result | Unmasked)
async def get_result(
    result_id: ResultId, state: StateDep, _: ClientDep, detail: DetailQuery = "short"
) -> Response:
    """Read an answer again; `Sunset` says until when it is kept."""
    stored, expires = await state.services.stores.results.kept(result_id)
    document: dict[str, Any] = json.loads(stored)
    kept_until = format_datetime(datetime.fromtimestamp(expires, UTC), usegmt=True)
    return JSONResponse(in_detail(document, detail), headers={"Sunset": kept_until})


@router.get(
    "/{result_id}/image.{format}",
    response_class=Response,
    responses={
        **file_response(*(kind.media_type for kind in PICTURE_FORMATS.values())),
        **_REDIRECT,
    },
)
async def get_result_image(
    request: Request,
    result_id: ResultId,
    file_format: Annotated[FormatName, Path(alias="format")],
    state: StateDep,
    _: ClientDep,
) -> Response:
    """Fetch the upscaled picture in the format that it was made in, or in another one.

    A picture without loss is available in every format that can hold it; converting it counts as a
    request of the client.
    """
    results = state.services.stores.results
    result = stored_picture(await results.document(result_id))
    if file_format == result.format:
        return await _stored(
            state, request, result_id, image_file(result), PICTURE_FORMATS[file_format].media_type
        )
    data = await results.blob(result_id, image_file(result))
    await state.charge("requests")
    file = await while_connected(
        request, drawing.in_turn(state, drawing.converted(state, result, data, file_format))
    )
    return StreamedFile(file, PICTURE_FORMATS[file_format].media_type)


@router.get(
    "/{result_id}/trust.cog.tiff",
    response_class=Response,
    responses={**file_response("image/tiff"), **_REDIRECT},
)
async def get_trust_cog(
    request: Request, result_id: ResultId, state: StateDep, _: ClientDep
) -> Response:
    """Fetch the trust levels as a Cloud Optimized GeoTIFF.

    Only results with format=cog.tiff have one.
    """
    return await _stored(state, request, result_id, TRUST_COG, "image/tiff")


@router.get(
    "/{result_id}/{part}.png",
    response_class=Response,
    responses={
        **file_response("image/png"),
        **_REDIRECT,
        **limited_responses("not-found", "bad-request", "bad-alpha"),
    },
)
async def get_result_file(
    request: Request,
    result_id: ResultId,
    part: _Part,
    state: StateDep,
    _: ClientDep,
    alpha: Alpha = None,
    rho: _Rho = None,
) -> Response:
    """Fetch the mask, trust levels, overlay, believed picture, or what was added.

    `mask`, `overlay` and `believed` take another α. `added` is 0 where added detail is doubtful,
    128 where nothing visible was added, 255 where detail holds up, and takes another ρ. `safe` is
    the picture with its detail in proportion to how real it probably is. Drawing one counts as a
    request of the client.
    """
    if part == "trust":
        return await _stored(state, request, result_id, TRUST, "image/png")
    result = stored_result(await state.services.stores.results.document(result_id))
    level = result.alpha if alpha is None else alpha
    if part == "mask" and level == result.alpha:
        return await _stored(state, request, result_id, MASK, "image/png")
    await state.charge("requests")
    work = _drawing(state, result, part, level, RHO if rho is None else rho)
    file = await while_connected(request, drawing.in_turn(state, work))
    return StreamedFile(file, "image/png")


def _drawing(
    state: State, result: Result, name: _Part, alpha: float, rho: float
) -> Coroutine[Any, Any, bytes]:
    match name:
        case "added":
            return drawing.added_zones(state, result, rho)
        case "safe":
            return drawing.safe_picture(state, result)
        case "overlay":
            return drawing.overlay_at(state, result, alpha)
        case "believed":
            return drawing.believed_at(state, result, alpha)
        case _:
            return drawing.mask_at(state, result, alpha)


async def _stored(
    state: State, request: Request, result_id: str, name: str, media_type: str
) -> Response:
    """A stored file, or a redirect to the object store.

    The service's own pages get the file from here, since the store would need CORS headers.
    """
    results = state.services.stores.results
    is_page = request.headers.get("sec-fetch-site") == "same-origin"
    if state.services.settings.presigned_links and not is_page:
        link = await results.link(result_id, name)
        if link is not None:
            return RedirectResponse(link, 307, headers={"Cache-Control": "no-store"})
    return StreamedFile(await results.file(result_id, name), media_type)
