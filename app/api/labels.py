"""Semantic calibrations over HTTP: the images of their pairs, and the labels that people draw."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Request, UploadFile
from fastapi.responses import JSONResponse, Response

from app.api.calibrations import MAX_ARCHIVE_BYTES, MAX_FILE_BYTES
from app.api.deps import AdminDep, AdminRoute, StateDep
from app.api.jobs import JobOut, accepted
from app.api.problems import problem_responses
from app.calibration.archive import ArchiveLimits
from app.calibration.uploads import archive_files
from app.errors import NotFound
from app.jobs.calibration import as_png
from app.stores.base import Job

router = APIRouter(prefix="/v1/admin/calibrations", tags=["admin"], route_class=AdminRoute)

_PROBLEMS = problem_responses("unauthorized", "forbidden", "not-found", "conflict", "bad-request")


@router.get(
    "/{calibration_id}/pairs/{name}/{part}.png", response_class=Response, responses=_PROBLEMS
)
async def read_pair_image(
    calibration_id: str,
    name: str,
    part: Literal["x", "y", "prediction", "label"],
    state: StateDep,
    _: AdminDep,
) -> Response:
    """An image of a pair of a calibration that awaits its labels."""
    found = await state.admin.resolve(calibration_id)
    if not isinstance(found, Job):
        raise NotFound("The images of a finished calibration are not kept.")
    stored = {"x": "x-shown", "y": "y", "prediction": "prediction", "label": "labels"}[part]
    data = await state.stores.spool.get(found.id, f"{stored}/{name}")
    return Response(await asyncio.to_thread(as_png, data), media_type="image/png")


@router.put(
    "/{calibration_id}/pairs/{name}/label.png",
    status_code=204,
    responses={**_PROBLEMS, **problem_responses("bad-image")},
    max_body_size=MAX_FILE_BYTES,
)
async def put_label(
    calibration_id: str, name: str, request: Request, state: StateDep, key: AdminDep
) -> Response:
    """The label of a pair: any pixel that is not black says that the meaning differs there."""
    job = await _pending(state, calibration_id)
    await state.admin.put_label(job, name, await request.body())
    await state.audit("calibration.label", key, job=job.id, pair=name)
    return Response(status_code=204)


@router.post(
    "/{calibration_id}/labels",
    responses={**_PROBLEMS, **problem_responses("bad-image", "bad-pairs")},
    max_body_size=MAX_ARCHIVE_BYTES,
)
async def put_labels(
    calibration_id: str,
    state: StateDep,
    key: AdminDep,
    archive: Annotated[UploadFile, File(description="zip or tar with labels/NAME.png")],
) -> list[dict[str, Any]]:
    """Many labels at once; the answer lists all pairs."""
    job = await _pending(state, calibration_id)
    await state.admin.put_labels(job, archive_files(archive.file, ArchiveLimits()))
    await state.audit("calibration.labels", key, job=job.id)
    return await state.admin.waiting_pairs(job)


@router.post(
    "/{calibration_id}/finish",
    status_code=202,
    response_model=JobOut,
    responses={**_PROBLEMS, **problem_responses("bad-pairs")},
)
async def finish_calibration(calibration_id: str, state: StateDep, key: AdminDep) -> JSONResponse:
    """Go on once all labels are there."""
    job = await state.admin.finish(await _pending(state, calibration_id))
    await state.audit("calibration.finish", key, job=job.id)
    return accepted(job)


async def _pending(state: StateDep, calibration_id: str) -> Job:
    found = await state.admin.resolve(calibration_id)
    if not isinstance(found, Job):
        raise NotFound(f"{calibration_id!r} is finished; its labels cannot change.")
    return found
