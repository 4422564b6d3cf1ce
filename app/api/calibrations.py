"""The admin's calibrations over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ValidationError

from app.answer import threshold_json
from app.api.deps import AdminDep, AdminRoute, StateDep
from app.api.jobs import JobOut, accepted
from app.api.problems import problem_responses
from app.calibration import file
from app.calibration.archive import ArchiveLimits, Entry
from app.calibration.canaries import forget
from app.calibration.config import CalibrationConfig
from app.calibration.insight import checks, leaked, run_backtest, thresholds
from app.calibration.plot import risk_plot
from app.calibration.record import Calibration
from app.calibration.uploads import UploadedFile, archive_files
from app.errors import BadRequest, ImageTooLarge
from app.stores.base import CalibrationHead, Job

MAX_ARCHIVE_BYTES = 64 * 1024**3
MAX_FILES = 20_000
MAX_FILE_BYTES = 256 * 1024 * 1024

router = APIRouter(prefix="/v1/admin/calibrations", tags=["admin"], route_class=AdminRoute)

_PROBLEMS = problem_responses("unauthorized", "forbidden", "not-found", "conflict", "bad-request")
_CREATE_PROBLEMS = problem_responses(
    "unauthorized",
    "forbidden",
    "not-found",
    "bad-pairs",
    "bad-request",
    "image-too-large",
    "unsupported-media",
)
_FORM_LIMITS: Any = {"max_files": MAX_FILES, "max_part_size": 1024 * 1024}


class CalibrationRow(CalibrationHead):
    """A calibration in a list."""

    active: bool


class ActivationOut(BaseModel):
    """Which calibration is active now, and which one it replaced."""

    upscaler: str
    calibration: str
    previous: str | None
    at: datetime


@router.get("", responses=_PROBLEMS)
async def list_calibrations(
    state: StateDep,
    _: AdminDep,
    upscaler: str | None = None,
    listed: Annotated[
        Literal["finished", "pending"],
        Query(alias="state", description="pending: the jobs that are making calibrations."),
    ] = "finished",
) -> list[CalibrationRow] | list[JobOut]:
    """All finished calibrations, or the jobs of those that are being made, the newest first."""
    if listed == "pending":
        jobs = await state.stores.jobs.pending("calibration")
        return [JobOut.of(job) for job in jobs if upscaler in {None, job.request["upscaler"]}]
    active = {item.calibration for item in (await state.stores.calibrations.active()).values()}
    heads = await state.stores.calibrations.heads(upscaler)
    return [CalibrationRow(**head.model_dump(), active=head.id in active) for head in heads]


@router.post(
    "",
    status_code=202,
    response_model=JobOut,
    responses=_CREATE_PROBLEMS,
    max_body_size=MAX_ARCHIVE_BYTES,
    form_limits=_FORM_LIMITS,
)
async def create_calibration(
    state: StateDep,
    key: AdminDep,
    config: Annotated[str, Form(description="JSON; every field has a default.")] = "{}",
    archive: Annotated[UploadFile | None, File(description="zip or tar")] = None,
    x: Annotated[list[UploadFile] | None, File()] = None,
    y: Annotated[list[UploadFile] | None, File()] = None,
) -> JSONResponse:
    """Calibrate from pairs, or only from high-resolution images and a degradation."""
    settings = _config(config)
    files = _uploaded(archive, x, y)
    job = await state.admin.create(settings, files, created_by=f"key {key}")
    await state.audit("calibration.create", key, job=job.id)
    return accepted(job)


@router.post(
    "/import",
    status_code=201,
    responses=problem_responses(
        "unauthorized", "forbidden", "bad-calibration", "bad-request", "calibration-mismatch"
    ),
    max_body_size=MAX_FILE_BYTES,
)
async def import_calibration(
    request: Request, state: StateDep, key: AdminDep, activate: bool = False
) -> JSONResponse:
    """Store a calibration file: the body, or the form file `file`."""
    if request.headers.get("content-type", "").startswith("multipart/"):
        async with request.form(max_files=1) as form:
            sent = form.get("file")
            if sent is None or isinstance(sent, str):
                raise BadRequest("The form has no file named file.")
            data = await sent.read()
    else:
        data = await request.body()
    calibration = await state.admin.import_file(data, activate=activate)
    await state.audit("calibration.import", key, calibration=calibration.id, activate=activate)
    location = f"{router.prefix}/{calibration.id}"
    return JSONResponse(
        await _detail(state, calibration), status_code=201, headers={"Location": location}
    )


@router.get("/{calibration_id}", responses=_PROBLEMS)
async def read_calibration(
    calibration_id: str,
    state: StateDep,
    _: AdminDep,
    n_leaked: Annotated[int | None, Query(ge=0, description="Training images among X.")] = None,
) -> JSONResponse:
    """One calibration; while it is being made, its job."""
    found = await state.admin.resolve(calibration_id)
    if isinstance(found, Job):
        job = JobOut.of(found).model_dump(mode="json")
        return JSONResponse({"id": found.id, "state": found.state, "job": job})
    detail = await _detail(state, found)
    if n_leaked is not None:
        detail["leakage"] = {"n_leaked": n_leaked, "bound": leaked(found, n_leaked)}
    return JSONResponse(detail)


@router.get("/{calibration_id}/curve", responses=_PROBLEMS)
async def read_curve(calibration_id: str, state: StateDep, _: AdminDep) -> list[dict[str, float]]:
    """The risk curve: from each threshold on, up to the next one, the risk."""
    curve = (await state.admin.finished(calibration_id)).curve
    return [
        {"threshold": t, "risk": r}
        for t, r in zip(curve.thresholds.tolist(), curve.risks.tolist(), strict=True)
    ]


@router.get("/{calibration_id}/plot.svg", response_class=Response, responses=_PROBLEMS)
async def read_plot(calibration_id: str, state: StateDep, _: AdminDep) -> Response:
    """Trusted area against α as a picture."""
    calibration = await state.admin.finished(calibration_id)
    svg = await asyncio.to_thread(risk_plot, calibration)
    return Response(svg, media_type="image/svg+xml")


@router.get("/{calibration_id}/backtest", responses=_PROBLEMS)
async def read_backtest(
    calibration_id: str,
    state: StateDep,
    _: AdminDep,
    splits: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """What to expect: realised risk and trusted area over random halvings, and checks."""
    calibration = await state.admin.finished(calibration_id)
    rows = await asyncio.to_thread(run_backtest, calibration, splits)
    return {
        "splits": splits,
        "rows": [row._asdict() for row in rows],
        "checks": await asyncio.to_thread(checks, calibration),
    }


@router.get("/{calibration_id}/export", response_class=Response, responses=_PROBLEMS)
async def export_calibration(calibration_id: str, state: StateDep, _: AdminDep) -> Response:
    """The calibration as one self-describing file."""
    calibration = await state.admin.finished(calibration_id)
    name = f"{calibration.id}{file.SUFFIX}"
    return Response(
        await asyncio.to_thread(file.dump, calibration),
        media_type=file.MEDIA_TYPE,
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


@router.post(
    "/{calibration_id}/activate",
    responses={**_PROBLEMS, **problem_responses("calibration-mismatch")},
)
async def activate_calibration(
    calibration_id: str, state: StateDep, key: AdminDep
) -> ActivationOut:
    """Serve from it; the answer names the one it replaces, whose activation is the way back."""
    calibration = await state.admin.finished(calibration_id)
    done = await state.admin.activate(calibration)
    await state.audit(
        "calibration.activate", key, calibration=done.calibration, previous=done.previous
    )
    return ActivationOut(**done._asdict())


@router.delete("/{calibration_id}", status_code=204, responses=_PROBLEMS)
async def delete_calibration(calibration_id: str, state: StateDep, key: AdminDep) -> Response:
    """Remove a calibration that is not active."""
    await state.stores.calibrations.delete(calibration_id)
    await forget(state.stores.spool, calibration_id)
    await state.audit("calibration.delete", key, calibration=calibration_id)
    return Response(status_code=204)


@router.post(
    "/{calibration_id}/pairs",
    status_code=202,
    response_model=JobOut,
    responses={**_CREATE_PROBLEMS, **problem_responses("conflict", "calibration-mismatch")},
    max_body_size=MAX_ARCHIVE_BYTES,
    form_limits=_FORM_LIMITS,
)
async def extend_calibration(
    calibration_id: str,
    state: StateDep,
    key: AdminDep,
    activate: Annotated[bool, Form()] = False,
    archive: Annotated[UploadFile | None, File()] = None,
    x: Annotated[list[UploadFile] | None, File()] = None,
    y: Annotated[list[UploadFile] | None, File()] = None,
) -> JSONResponse:
    """A new calibration of the old pairs and these; nothing is generated again for the old ones."""
    parent = await state.admin.finished(calibration_id)
    job = await state.admin.extend(
        parent, _uploaded(archive, x, y), created_by=f"key {key}", activate=activate
    )
    await state.audit("calibration.extend", key, parent=parent.id, job=job.id)
    return accepted(job)


@router.get("/{calibration_id}/pairs", responses=_PROBLEMS)
async def list_pairs(calibration_id: str, state: StateDep, _: AdminDep) -> list[dict[str, Any]]:
    """The pairs; while labels are awaited, which ones still need one."""
    found = await state.admin.resolve(calibration_id)
    if isinstance(found, Job):
        return await state.admin.waiting_pairs(found)
    return [
        {**info.model_dump(), "breakpoints": len(staircase)}
        for info, staircase in zip(found.manifest.pairs, found.staircases, strict=True)
    ]


@router.delete("/{calibration_id}/pairs/{name}", status_code=201, responses=_PROBLEMS)
async def remove_pair(
    calibration_id: str, name: str, state: StateDep, key: AdminDep
) -> JSONResponse:
    """A new calibration without this pair, from the stored staircases."""
    parent = await state.admin.finished(calibration_id)
    smaller = await state.admin.without_pair(parent, name, created_by=f"key {key}")
    await state.audit(
        "calibration.remove_pair", key, parent=parent.id, pair=name, calibration=smaller.id
    )
    return JSONResponse(
        await _detail(state, smaller),
        status_code=201,
        headers={"Location": f"{router.prefix}/{smaller.id}"},
    )


def _config(text: str) -> CalibrationConfig:
    try:
        return CalibrationConfig.model_validate_json(text)
    except ValidationError as error:
        items = [
            {"field": ".".join(map(str, item["loc"])) or "config", "reason": item["msg"]}
            for item in error.errors(include_url=False, include_context=False)
        ]
        detail = "; ".join(f"{item['field']}: {item['reason']}" for item in items)
        raise BadRequest(f"config: {detail}.", fields=items) from error


def _uploaded(
    archive: UploadFile | None, x: list[UploadFile] | None, y: list[UploadFile] | None
) -> Iterator[UploadedFile | Entry]:
    """The uploaded files, read one at a time from where the form parser has put them."""
    if archive is not None:
        if x or y:
            raise BadRequest("Send either archive, or files x and y.")
        return archive_files(archive.file, ArchiveLimits())
    return _form_files({"x": x or [], "y": y or []})


def _form_files(files: dict[Literal["x", "y"], list[UploadFile]]) -> Iterator[UploadedFile]:
    for role, uploads in files.items():
        for upload in uploads:
            name = PurePosixPath((upload.filename or "").replace("\\", "/")).stem
            if not name:
                raise BadRequest(f"A file of {role} has no name; pairs are matched by name.")
            data = upload.file.read(MAX_FILE_BYTES + 1)
            if len(data) > MAX_FILE_BYTES:
                raise ImageTooLarge(
                    f"{name!r} has more than {MAX_FILE_BYTES:,} bytes.",
                    limit="max_file_bytes",
                    maximum=MAX_FILE_BYTES,
                )
            yield UploadedFile(role, name, data)


async def _detail(state: StateDep, calibration: Calibration) -> dict[str, Any]:
    """Everything about a calibration but its pairs."""
    active = await state.calibrations.active_id(calibration.manifest.upscaler)
    document = dict(calibration.document)
    document.pop("pairs")
    return {
        "id": calibration.id,
        "state": "active" if active == calibration.id else "ready",
        "n": calibration.n,
        "min_alpha": calibration.curve.min_alpha,
        "thresholds": [
            {**row, "threshold": threshold_json(row["threshold"])}
            for row in thresholds(calibration)
        ],
        **document,
    }
