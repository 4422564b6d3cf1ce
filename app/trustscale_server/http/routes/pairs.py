"""The pairs of a calibration: listed, looked at, labelled, taken out."""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Literal

from fastapi import File, Header, Request, UploadFile
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from trustscale_server.calibrating import labels, pair_pictures
from trustscale_server.calibrating.detail import CalibrationDetail, PairDetail
from trustscale_server.calibrating.intake.archive import ArchiveLimits, archive_files
from trustscale_server.calibrating.labelling import WaitingPair
from trustscale_server.calibration.calibration import Calibration
from trustscale_server.http.access import AdminDep, admin_router
from trustscale_server.http.openapi import body_of, file_response
from trustscale_server.http.pairs_form import MAX_ARCHIVE_BYTES, MAX_FILE_BYTES
from trustscale_server.http.problems import problem_responses
from trustscale_server.http.routes.jobs import job_accepted
from trustscale_server.http.state import State, StateDep
from trustscale_server.jobs.document import JobOut
from trustscale_server.platform.errors import BadRequest, NotFound
from trustscale_server.stores.job_status import JobStatus

_ETAG = r'^"v(\d{1,9})"$'

router = admin_router("calibrations", "not-found", "conflict", "bad-request")


class RewrittenPlace(BaseModel):
    """The place of a pair that the model rewrote most."""

    box: tuple[int, int, int, int] = Field(
        description="Left, top, right and bottom, in pixels of the original."
    )
    badness: float = Field(description="How much, in [0, 1]; 0: nothing that can be seen.")


@router.get("/{calibration_id}/pairs")
async def list_pairs(
    calibration_id: str, state: StateDep, _: AdminDep
) -> list[PairDetail] | list[WaitingPair]:
    """List the pairs of a calibration.

    While labels are awaited it says which pairs still need one.
    """
    resolved = await state.services.admin.resolve(calibration_id)
    if isinstance(resolved, JobStatus):
        return await state.services.admin.labelling.pairs(resolved)
    return [
        PairDetail(**info.model_dump(), spots=int(spots))
        for info, spots in zip(resolved.manifest.pairs, resolved.arrays.spots, strict=True)
    ]


@router.delete("/{calibration_id}/pairs/{name:path}", status_code=201)
async def remove_pair(
    calibration_id: str, name: str, response: Response, state: StateDep, actor: AdminDep
) -> CalibrationDetail:
    """Make a calibration without this pair.

    It is made of the stored loss curves.
    """
    parent = await state.services.admin.finished(calibration_id)
    without = await state.services.admin.without_pair(parent, name, actor=actor)
    response.headers["Location"] = f"{router.prefix}/{without.id}"
    return await state.services.admin.detail(without)


@router.get(
    "/{calibration_id}/pairs/{name:path}/{part}.png",
    response_class=Response,
    responses=file_response("image/png"),
)
async def get_pair_image(
    calibration_id: str,
    name: str,
    part: Literal["x", "y", "prediction", "label"],
    state: StateDep,
    _: AdminDep,
) -> Response:
    """Fetch an image of a pair, while the files of its job are kept.

    The `ETag` of an awaited label is its version.
    """
    resolved = await state.services.admin.resolve(calibration_id)
    blobs = state.services.stores.blobs
    headers = {}
    if part != "label":
        data = await _pictures_of(state, resolved)(name, part)
    elif isinstance(resolved, JobStatus):
        data, version = await labels.newest_label(blobs, resolved.id, name)
        headers["ETag"] = _etag(version)
    else:
        data = await pair_pictures.label_of_calibration(blobs, resolved.id, name)
    return Response(data, media_type="image/png", headers=headers)


@router.get("/{calibration_id}/pairs/{name:path}/worst")
async def get_worst_place(
    calibration_id: str, name: str, state: StateDep, _: AdminDep
) -> RewrittenPlace:
    """Find the place of a pair that the model rewrote most, while its files are kept."""
    resolved = await state.services.admin.resolve(calibration_id)
    async with state.context.drawing.slot():
        place = await pair_pictures.most_rewritten(_pictures_of(state, resolved), name)
    if place is None:
        return RewrittenPlace(box=(0, 0, 0, 0), badness=0.0)
    return RewrittenPlace(box=place.box, badness=place.badness)


def _pictures_of(state: State, resolved: JobStatus | Calibration) -> pair_pictures.Reading:
    """Return the function that reads the pictures of the pairs of a job, or of a calibration."""
    read = pair_pictures.of_job if isinstance(resolved, JobStatus) else pair_pictures.of_calibration
    return partial(read, state.services.stores.blobs, resolved.id)


@router.put(
    "/{calibration_id}/pairs/{name:path}/label.png",
    status_code=204,
    responses={
        **problem_responses("bad-image", "decode-limit", "bad-request"),
        **problem_responses("conflict", status=412),
    },
    max_body_size=MAX_FILE_BYTES,
    openapi_extra=body_of("image/png"),
)
async def put_label(
    calibration_id: str,
    name: str,
    request: Request,
    state: StateDep,
    actor: AdminDep,
    if_match: Annotated[
        str | None,
        Header(
            description="The ETag of the label that this one was drawn on.",
            json_schema_extra={"pattern": _ETAG},
        ),
    ] = None,
    if_none_match: Annotated[
        str | None,
        Header(
            description="`*` stores only a first label.", json_schema_extra={"pattern": r"^\*$"}
        ),
    ] = None,
) -> Response:
    """Set the label of a pair: the meaning differs at every pixel that is not black.

    With `If-Match`, or `If-None-Match: *` for a first one, it replaces only the label it was drawn
    on; 412 names the present version.
    """
    seen, body = _version_drawn_on(if_match, if_none_match), await request.body()
    job = await _pending_job(state, calibration_id)  # after the body: a slow upload may outlast it
    version = await state.services.admin.labelling.put(job, name, body, actor, seen=seen)
    return Response(status_code=204, headers={"ETag": _etag(version)})


@router.post(
    "/{calibration_id}/labels",
    responses=problem_responses("bad-image", "bad-pairs", "bad-request"),
    max_body_size=MAX_ARCHIVE_BYTES,
)
async def put_labels(
    calibration_id: str,
    state: StateDep,
    actor: AdminDep,
    archive: Annotated[UploadFile, File(description="zip or tar with labels/NAME.png")],
) -> list[WaitingPair]:
    """Set the labels of many pairs at once.

    The answer lists all pairs.
    """
    job = await _pending_job(state, calibration_id)
    labelling = state.services.admin.labelling
    await labelling.put_all(job, lambda: archive_files(archive.file, ArchiveLimits()), actor)
    return await labelling.pairs(job)


@router.post(
    "/{calibration_id}/finish",
    status_code=202,
    response_model=JobOut,
    responses=problem_responses("bad-pairs", "bad-request"),
)
async def finish_calibration(calibration_id: str, state: StateDep, actor: AdminDep) -> JSONResponse:
    """Continue a calibration once all labels are there."""
    job = await _pending_job(state, calibration_id)
    return job_accepted(await state.services.admin.labelling.finish(job, actor))


async def _pending_job(state: StateDep, calibration_id: str) -> JobStatus:
    resolved = await state.services.admin.resolve(calibration_id)
    if not isinstance(resolved, JobStatus):
        raise NotFound(f"{calibration_id!r} is finished; its labels cannot change.")
    return resolved


def _etag(version: int) -> str:
    return f'"v{version}"'


def _version_drawn_on(if_match: str | None, if_none_match: str | None) -> int | None:
    """The version that a label was drawn on; 0: on none; None: the request does not say.

    Raises:
        BadRequest: a header with another value.
    """
    if if_none_match is not None:
        if if_none_match.strip() != "*" or if_match is not None:
            raise BadRequest("Send either If-Match, or If-None-Match with the value *.")
        return 0
    if if_match is None:
        return None
    match = re.fullmatch(_ETAG, if_match.strip())
    if match is None:
        raise BadRequest(
            f'If-Match must be the ETag of a label, such as "v1", not {if_match[:40]!r}.'
        )
    return int(match[1])
