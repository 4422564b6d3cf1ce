"""Semantic calibrations over HTTP: the images of pairs, and the labels that people draw."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from fastapi import File, Header, Request, UploadFile
from fastapi.responses import JSONResponse, Response

from app.api.calibrate import MAX_ARCHIVE_BYTES, MAX_FILE_BYTES
from app.api.deps import AdminDep, StateDep, admin_router
from app.api.jobs import JobOut, accepted
from app.api.openapi import body_of, file_response
from app.api.problems import problem_responses
from app.calibration import labels, pictures
from app.calibration.archive import ArchiveLimits, archive_files
from app.calibration.labels import WaitingPair
from app.errors import BadRequest, NotFound
from app.stores.base import JobStatus

router = admin_router("calibrations", "not-found", "conflict", "bad-request")


@router.get(
    "/{calibration_id}/pairs/{name}/{part}.png",
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
    """An image of a pair, while the files of its job are kept.

    The `ETag` of an awaited label is its version.
    """
    found, blobs = await state.admin.resolve(calibration_id), state.stores.blobs
    headers = {}
    if part != "label":
        read = pictures.of_job if isinstance(found, JobStatus) else pictures.of_calibration
        data = await read(blobs, found.id, name, part)
    elif isinstance(found, JobStatus):
        data, version = await labels.read(blobs, found.id, name)
        headers["ETag"] = _etag(version)
    else:
        data = await pictures.label_of_calibration(blobs, found.id, name)
    return Response(data, media_type="image/png", headers=headers)


@router.put(
    "/{calibration_id}/pairs/{name}/label.png",
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
    if_match: Annotated[str | None, Header(description="The ETag it was drawn on.")] = None,
    if_none_match: Annotated[str | None, Header(description="`*`: only a first label.")] = None,
) -> Response:
    """The label of a pair: the meaning differs at every pixel that is not black.

    With `If-Match`, or `If-None-Match: *` for a first one, it replaces only the label it was drawn
    on; 412 names the present version.
    """
    seen, body = _seen(if_match, if_none_match), await request.body()
    job = await _pending(state, calibration_id)  # after the body: a slow upload may outlast it
    version = await state.admin.labelling.put(job, name, body, seen=seen)
    await state.audit("calibration.label", actor, job=job.id, pair=name, version=version)
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
    """Many labels at once; the answer lists all pairs."""
    job = await _pending(state, calibration_id)
    await state.admin.labelling.put_all(job, lambda: archive_files(archive.file, ArchiveLimits()))
    await state.audit("calibration.labels", actor, job=job.id)
    return await state.admin.labelling.pairs(job)


@router.post(
    "/{calibration_id}/finish",
    status_code=202,
    response_model=JobOut,
    responses=problem_responses("bad-pairs", "bad-request"),
)
async def finish_calibration(calibration_id: str, state: StateDep, actor: AdminDep) -> JSONResponse:
    """Continue once all labels are there."""
    job = await state.admin.labelling.finish(await _pending(state, calibration_id))
    await state.audit("calibration.finish", actor, job=job.id)
    return accepted(job)


async def _pending(state: StateDep, calibration_id: str) -> JobStatus:
    found = await state.admin.resolve(calibration_id)
    if not isinstance(found, JobStatus):
        raise NotFound(f"{calibration_id!r} is finished; its labels cannot change.")
    return found


def _etag(version: int) -> str:
    return f'"v{version}"'


def _seen(if_match: str | None, if_none_match: str | None) -> int | None:
    """The version that a label was drawn on; 0: none; None: not said.

    Raises:
        BadRequest: a header with another value.
    """
    if if_none_match is not None:
        if if_none_match.strip() != "*" or if_match is not None:
            raise BadRequest("If-None-Match must be *, without If-Match.")
        return 0
    if if_match is None:
        return None
    found = re.fullmatch(r'"v(\d{1,9})"', if_match.strip())
    if found is None:
        raise BadRequest(f"If-Match is the ETag of a label, not {if_match[:40]!r}.")
    return int(found[1])
