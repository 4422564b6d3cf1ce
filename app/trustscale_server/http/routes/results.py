"""Stored results: document and files, also for another α or in another form; and their truths."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Coroutine
from contextlib import closing
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import IO, Annotated, Any, Literal

from fastapi import APIRouter, File, Path, Query, Request, UploadFile
from fastapi.responses import JSONResponse, RedirectResponse, Response
from PIL import Image

from trustscale_server.http.connection import while_connected
from trustscale_server.http.openapi import file_response
from trustscale_server.http.problems import limited_responses, problem_responses
from trustscale_server.http.sent import Sent
from trustscale_server.http.state import ClientDep, ClientRoute, State, StateDep
from trustscale_server.images.encode import FORMS, Attached, FormName, Pages, picture
from trustscale_server.images.marked import write_marked
from trustscale_server.images.marks import mark_in
from trustscale_server.images.metadata import metadata_of
from trustscale_server.images.png import to_bytes, to_png
from trustscale_server.images.xmp import texts_of
from trustscale_server.monitoring.feedback import (
    MAX_TRUTH_BYTES,
    ScoredMask,
    Served,
    TruthReport,
    counting,
    footprint_of,
    read_truth,
    score_mask,
)
from trustscale_server.platform.errors import BadRequest, Conflict, NotFound
from trustscale_server.platform.fair import current_client
from trustscale_server.platform.tasks import shielded
from trustscale_server.serving.added import CELLS, RHO, read_cells, zones
from trustscale_server.serving.document import (
    INPUT,
    MASK,
    REST,
    TRUST,
    TRUST_COG,
    UNMASKED_TEXT,
    Detail,
    Result,
    Unmasked,
    from_store,
    in_detail,
)
from trustscale_server.serving.pictures import (
    ChosenForm,
    check_alpha,
    form_of,
    image_file,
    pixels_of,
    png_believed_of,
    png_overlay,
    png_safe_of,
    png_text,
    read_codes,
    read_mask,
    stored_picture,
    stored_result,
)
from trustscale_server.stores.base import Label
from trustscale_server.stores.spool import spooled

router = APIRouter(
    route_class=ClientRoute,
    prefix="/v1/results",
    tags=["upscale"],
    responses=problem_responses("bad-request", "not-found", "unauthorized"),
)

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

_Rho = Annotated[
    float | None,
    Query(gt=0, lt=1, description="The share of what holds up that may be invented."),
]

_REDIRECT: Any = {307: {"description": "The object store has the file, for some minutes."}}

_PROBLEMS = (
    "not-found", "conflict", "bad-image", "decode-limit", "bad-request", "image-too-large",
    "unsupported-media",
)  # fmt: skip


@router.get("/{result_id}", response_model=Result | Unmasked)
async def get_result(
    result_id: ResultId, state: StateDep, _: ClientDep, detail: DetailQuery = "short"
) -> Response:
    """Read an answer again; `Sunset` says until when it is kept."""
    stored, expires = await state.stores.results.kept(result_id)
    document, _input = from_store(stored)
    ends = format_datetime(datetime.fromtimestamp(expires, UTC), usegmt=True)
    return JSONResponse(in_detail(document, detail), headers={"Sunset": ends})


@router.get(
    "/{result_id}/image.{form}",
    response_class=Response,
    responses={**file_response(*(form.media_type for form in FORMS.values())), **_REDIRECT},
)
async def get_result_image(
    request: Request, result_id: ResultId, form: FormName, state: StateDep, _: ClientDep
) -> Response:
    """Fetch the upscaled picture in the format that it was made in, or in another one.

    A picture without loss is available in every form that can hold it; converting it counts as a
    request of the client.
    """
    results = state.stores.results
    result = stored_picture(await results.document(result_id))
    if form == result.format:
        return await _stored(state, request, result_id, image_file(result), FORMS[form].media_type)
    data = await results.blob(result_id, image_file(result))
    await state.limits.take(current_client.get(), "requests")
    file = await while_connected(request, in_turn(state, _in_form(state, result, data, form)))
    return Sent(file, FORMS[form].media_type)


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
    part: Literal["mask", "trust", "overlay", "believed", "added", "safe"],
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
    if part in {"added", "safe"}:
        result = stored_result(await state.stores.results.document(result_id))
        await state.limits.take(current_client.get(), "requests")
        drawing = _of_added(state, result, part, RHO if rho is None else rho)
        drawn = await while_connected(request, in_turn(state, drawing))
        return Sent(drawn, "image/png")
    if part == "trust":
        return await _stored(state, request, result_id, TRUST, "image/png")
    result = stored_result(await state.stores.results.document(result_id))
    level = check_alpha(alpha, result.alpha)
    if part == "mask" and level == result.alpha:
        return await _stored(state, request, result_id, MASK, "image/png")
    await state.limits.take(current_client.get(), "requests")
    drawn = await while_connected(request, in_turn(state, _drawn(state, result, level, part)))
    return Sent(drawn, "image/png")


@router.post(
    "/{result_id}/truth",
    status_code=201,
    response_model=TruthReport,
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
    await state.limits.take(current_client.get(), "requests")
    result = stored_result(await state.stores.results.document(result_id))
    whole = await state.calibrations.stored(result.calibration)
    calibration = result.subset_of(whole)
    cost = footprint_of(result, calibration)

    async def measure() -> ScoredMask:
        async with state.service.context.slots.slot(cost):
            served = await _served(state, result)
            files = [None if upload is None else upload.file for upload in (image, label)]
            pixels = await read_truth(calibration, served, image=files[0], label=files[1])
            return await shielded(score_mask, calibration, served, pixels)

    scored = await while_connected(request, measure())
    count = counting(scored, time.time())
    stored = await state.monitor.change(whole.id, count, labels=result_id)
    if stored is not None:
        return stored
    earlier = await state.monitor.store.label(whole.id, result_id)
    response.status_code = 200
    return _same(earlier, scored.digest, result_id)


async def _stored(
    state: State, request: Request, result_id: str, name: str, media_type: str
) -> Response:
    """A stored file, or a redirect to the object store.

    The service's own pages get the file from here, since the store would need CORS headers.
    """
    results = state.stores.results
    is_page = request.headers.get("sec-fetch-site") == "same-origin"
    if state.settings.presigned_links and not is_page:
        link = await results.link(result_id, name)
        if link is not None:
            return RedirectResponse(link, 307, headers={"Cache-Control": "no-store"})
    return Sent(await results.file(result_id, name), media_type)


async def in_turn(state: State, drawing: Coroutine[Any, Any, bytes]) -> IO[bytes]:
    """Await the drawing of a file in its turn, so that few are in memory at once."""
    with closing(drawing):
        async with state.service.context.drawing.slot():
            drawn = await drawing
            return await asyncio.to_thread(spooled, lambda out: out.write(drawn))


async def _in_form(state: State, result: Result | Unmasked, data: bytes, form: FormName) -> bytes:
    """The stored picture in another form with the same metadata; TIFF with mask and trust levels.

    Raises:
        BadRequest: the picture has 16 bits, was stored with loss, or does not fit the form.
    """
    if result.raster is not None and result.raster.stretch is not None:
        raise BadRequest(
            f"A result of 16 bits can only be fetched in its own form, {result.format}."
        )
    if not form_of(result.format, result.quality).is_lossless:
        raise BadRequest(
            f"The picture was stored as {result.format}, with loss: it can be had in that form "
            "only. Send format=png with the request to have it in all of them."
        )
    trust = mask_file = b""
    if isinstance(result, Result):
        if form_of(form, None).holds_pages:
            trust = await state.stores.results.blob(result.id, TRUST)
        mask_file = await mask_at(state, result, result.alpha)

    def made() -> bytes:
        image = Image.open(io.BytesIO(data))
        pixels = pixels_of(image)
        ChosenForm(form, None).raise_if_impossible(
            max(image.size), transparent=pixels.shape[2] == 4
        )
        text, pages = dict(UNMASKED_TEXT), None
        if mask_file:
            mask, text = read_mask(mask_file)
            pages = Pages(mask, read_codes(trust)) if trust else None
        metadata, _ = metadata_of(image, with_place=True)
        mark = mark_in(texts_of(image.info["xmp"])) if "xmp" in image.info else None
        attached = Attached(text, metadata, pages)
        if mark is None:  # of an answer that an earlier release stored
            return picture(pixels, form, attached=attached)
        return to_bytes(write_marked)(pixels, form, mark, attached=attached)

    return await shielded(made)


async def mask_at(state: State, result: Result, alpha: float) -> bytes:
    """Return the mask of a stored answer at α, a PNG file."""
    if alpha == result.alpha:
        return await state.stores.results.blob(result.id, MASK)
    calibration = await state.calibrations.get(result.calibration)
    trust = await state.stores.results.blob(result.id, TRUST)
    subset = result.subset_of(calibration)
    kind = result.input_class.name if result.input_class else None

    def drawn() -> bytes:
        curve = subset.curve
        text = png_text(
            calibration, subset.guarantee, alpha, curve.threshold(alpha), result.group, kind
        )
        if result.batch is not None:  # whose curve is not kept
            del text["trustscale:threshold"]
        return to_png(curve.mask_of_code(read_codes(trust), alpha), text)

    return await shielded(drawn)


async def _drawn(state: State, result: Result, alpha: float, name: str) -> bytes:
    mask = await mask_at(state, result, alpha)
    if name == "mask":
        return mask
    image = await state.stores.results.blob(result.id, image_file(result))
    if name == "overlay":
        return await shielded(png_overlay, result, image, mask)
    rest = await state.stores.results.blob(result.id, REST)
    return await shielded(png_believed_of, result, image, mask, rest)


async def _of_added(state: State, result: Result, part: str, rho: float) -> bytes:
    """The zones of what was added, or the safe copy.

    Raises:
        NotFound: nothing is known of what was added.
    """
    if result.added is None:
        raise NotFound(f"What the model added to {result.id!r} was not looked at.")
    blob = state.stores.results.blob
    cells = await blob(result.id, CELLS)
    if part == "safe":
        image, mask, rest = [
            await blob(result.id, name) for name in (image_file(result), MASK, REST)
        ]
        return await shielded(png_safe_of, result, image, mask, rest, cells)
    subset = result.subset_of(await state.calibrations.get(result.calibration))
    held = None if result.added.held is None else subset.held(rho)
    width, height = result.reduced_from or (result.width, result.height)
    return await shielded(
        lambda: to_png(
            zones(read_cells(cells), held, (height, width), (result.height, result.width)), {}
        )
    )


async def _served(state: State, result: Result) -> Served:
    """Read the files that were served.

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
    _, upload = from_store(await state.stores.results.document(result.id))
    if upload is None:
        upload = int.from_bytes(await blob(result.id, INPUT), "little")
    return Served(
        result,
        await blob(result.id, image_file(result)),
        await blob(result.id, MASK),
        await blob(result.id, TRUST),
        upload,
    )


def _same(earlier: Label | None, digest: str, result_id: str) -> TruthReport:
    """The first answer.

    Raises:
        Conflict: another truth was sent first.
    """
    if earlier is None or earlier.digest != digest:
        raise Conflict(f"Another truth about {result_id!r} was sent before; it stays.")
    return TruthReport.model_validate_json(earlier.record)
