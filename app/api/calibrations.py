"""The admin's calibrations over HTTP."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from itertools import islice
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from app.api.deps import AdminDep, AdminRoute, StateDep
from app.api.forms import check_fields
from app.api.jobs import JobOut, accepted
from app.api.pair_forms import MAX_FILE_BYTES, config_of, uploaded
from app.api.problems import problem_responses
from app.calibration import file, pictures
from app.calibration.groups import parse_groups
from app.calibration.insight import checks, coarser, groups_of, leaked, run_backtest, thresholds
from app.calibration.plot import risk_plot
from app.calibration.record import Calibration
from app.canary.keep import forget
from app.errors import BadRequest, Conflict, UpscalerUnavailable
from app.monitor.watch import monitored_keys
from app.sampling.pipeline import differences
from app.serving.answer import threshold_json
from app.stores.base import CalibrationHead, JobStatus

MAX_ARCHIVE_BYTES = 64 * 1024**3
MAX_FILES = 500  # each is open until the request ends; archives take more

_ROWS_AT_ONCE = 5000

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
_GROUP_PROBLEMS = {**_PROBLEMS, **problem_responses("bad-group")}
_FORM_LIMITS: Any = {"max_files": MAX_FILES, "max_part_size": 1024 * 1024}

Groups = Annotated[
    str, Form(description="The group of each pair: JSON {NAME: GROUP}, or CSV with name,group.")
]
Group = Annotated[str | None, Query(description="Only the pairs of this group.")]


class CalibrationRow(CalibrationHead):
    """A calibration in a list; `previous` is the one that an active one has replaced."""

    active: bool
    previous: str | None


class PendingRow(JobOut):
    """A job that is making a calibration, in a list."""

    name: str | None
    upscaler: str
    metric: str
    needs_label: bool

    @classmethod
    def of(cls, job: JobStatus) -> PendingRow:
        """The public part of a stored job."""
        return cls(
            **JobOut.of(job).model_dump(),
            name=job.about["name"],
            upscaler=str(job.about["upscaler"]),
            metric=str(job.about["metric"]),
            needs_label=job.about["labels"] == "people",
        )


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
) -> list[CalibrationRow] | list[PendingRow]:
    """All finished calibrations, or the jobs of those that are being made, the newest first."""
    if listed == "pending":
        jobs = await state.stores.jobs.pending("calibration")
        return [PendingRow.of(job) for job in jobs if upscaler in {None, job.about["upscaler"]}]
    active = await state.stores.calibrations.active()
    previous = {item.calibration: item.previous for item in active.values()}
    heads = await state.stores.calibrations.heads(upscaler)
    return [
        CalibrationRow(
            **head.model_dump(), active=head.id in previous, previous=previous.get(head.id)
        )
        for head in heads
    ]


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
    groups: Groups = "",
    archive: Annotated[UploadFile | None, File(description="zip or tar")] = None,
    x: Annotated[list[UploadFile] | None, File()] = None,
    y: Annotated[list[UploadFile] | None, File()] = None,
) -> JSONResponse:
    """Calibrate from pairs, or only from high-resolution images and a degradation."""
    settings = config_of(config)
    files = uploaded(archive, x, y)
    job = await state.admin.create(
        settings, files, created_by=f"key {key}", groups=parse_groups(groups)
    )
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
            check_fields(form, {"file": True})
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
        await detail(state, calibration), status_code=201, headers={"Location": location}
    )


@router.get("/{calibration_id}", responses=_GROUP_PROBLEMS)
async def read_calibration(
    calibration_id: str,
    state: StateDep,
    _: AdminDep,
    n_leaked: Annotated[int | None, Query(ge=0, description="Training images among X.")] = None,
    group: Group = None,
) -> JSONResponse:
    """One calibration; while it is being made, its job."""
    found = await state.admin.resolve(calibration_id)
    if isinstance(found, JobStatus):
        job = PendingRow.of(found).model_dump(mode="json")
        return JSONResponse({"id": found.id, "state": found.state, "job": job})
    document = await detail(state, found, group)
    if n_leaked is not None:
        bound = leaked(found.of_group(group), n_leaked)
        document["leakage"] = {"n_leaked": n_leaked, "bound": bound}
    return JSONResponse(document)


@router.get(
    "/{calibration_id}/curve",
    response_model=list[dict[str, float]],
    responses=_GROUP_PROBLEMS,
)
async def read_curve(
    calibration_id: str,
    state: StateDep,
    _: AdminDep,
    group: Group = None,
    points: Annotated[
        int | None, Query(ge=1, description="At most so many steps, none of them too low.")
    ] = None,
) -> Response:
    """The curve: from each threshold on, up to the next one, the risk or the bound on it."""
    calibration = await state.admin.finished(calibration_id)

    def answer() -> Response:
        curve = calibration.of_group(group).curve
        steps = zip(*coarser(curve, points or len(curve.risks)), strict=True)
        rows = ({"threshold": t, "risk": r} for t, r in steps)
        # In parts: the encoder of one long list would keep all other threads waiting.
        parts = iter(lambda: list(islice(rows, _ROWS_AT_ONCE)), [])
        texts = (json.dumps(part, allow_nan=False, separators=(",", ":"))[1:-1] for part in parts)
        return Response(f"[{','.join(texts)}]", media_type="application/json")

    # Millions of steps of a large calibration: also their JSON is seconds of work.
    return await asyncio.to_thread(answer)


@router.get("/{calibration_id}/plot.svg", response_class=Response, responses=_GROUP_PROBLEMS)
async def read_plot(
    calibration_id: str, state: StateDep, _: AdminDep, group: Group = None
) -> Response:
    """Trusted area against α as a picture."""
    calibration = (await state.admin.finished(calibration_id)).of_group(group)
    svg = await asyncio.to_thread(risk_plot, calibration, group)
    return Response(svg, media_type="image/svg+xml")


@router.get("/{calibration_id}/backtest", responses=_GROUP_PROBLEMS)
async def read_backtest(
    calibration_id: str,
    state: StateDep,
    _: AdminDep,
    splits: Annotated[int, Query(ge=1, le=1000)] = 100,
    group: Group = None,
) -> dict[str, Any]:
    """What to expect: realised risk and trusted area over random halvings, and checks."""
    calibration = (await state.admin.finished(calibration_id)).of_group(group)
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
    """Remove a calibration that is not active, and that no pending job extends."""
    for job in await state.stores.jobs.pending("calibration"):
        if job.about["parent"] == calibration_id:
            raise Conflict(f"The job {job.id} extends this calibration; cancel it, or let it end.")
    monitored = await monitored_keys(state.calibrations, calibration_id)
    await state.stores.calibrations.delete(calibration_id)
    await forget(state.stores.spool, calibration_id)
    for name in monitored:
        await state.stores.monitor.forget(name)
    await pictures.forget(state.stores.spool, calibration_id)
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
    groups: Groups = "",
    archive: Annotated[UploadFile | None, File()] = None,
    x: Annotated[list[UploadFile] | None, File()] = None,
    y: Annotated[list[UploadFile] | None, File()] = None,
) -> JSONResponse:
    """A new calibration of the old pairs and these; nothing is generated again for the old ones."""
    parent = await state.admin.finished(calibration_id)
    job = await state.admin.extend(
        parent,
        uploaded(archive, x, y),
        created_by=f"key {key}",
        activate=activate,
        groups=parse_groups(groups),
    )
    await state.audit("calibration.extend", key, parent=parent.id, job=job.id)
    return accepted(job)


@router.get("/{calibration_id}/pairs", responses=_PROBLEMS)
async def list_pairs(calibration_id: str, state: StateDep, _: AdminDep) -> list[dict[str, Any]]:
    """The pairs; while labels are awaited, which ones still need one."""
    found = await state.admin.resolve(calibration_id)
    if isinstance(found, JobStatus):
        return await state.admin.waiting_pairs(found)
    return [
        {**info.model_dump(), "group": info.group, "breakpoints": len(staircase)}
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
        await detail(state, smaller),
        status_code=201,
        headers={"Location": f"{router.prefix}/{smaller.id}"},
    )


async def detail(
    state: StateDep, calibration: Calibration, group: str | None = None
) -> dict[str, Any]:
    """Everything about a calibration but its pairs; n and the thresholds are those of the group.

    `differences` from the live upscaler are those that forbid to serve from it; null: not known,
    because it cannot be reached or is not configured.
    """
    active = await state.calibrations.active_id(calibration.manifest.upscaler)

    def facts() -> tuple[dict[str, Any], Calibration, float]:
        part = calibration.of_group(group)
        return {**calibration.document}, part, part.curve.min_alpha

    document, part, min_alpha = await asyncio.to_thread(facts)
    document.pop("pairs")
    return {
        "id": calibration.id,
        "state": "active" if active == calibration.id else "ready",
        "n": part.n,
        "min_alpha": min_alpha,
        "bound": calibration.bound,
        "differences": _differences(state, calibration),
        "thresholds": [
            {**row, "threshold": threshold_json(row["threshold"])}
            for row in await asyncio.to_thread(thresholds, part)
        ],
        **document,
        "guarantee": calibration.guarantee.facts(),
        "groups": await asyncio.to_thread(groups_of, calibration),
    }


def _differences(state: StateDep, calibration: Calibration) -> list[dict[str, Any]] | None:
    upscaler = state.service.upscalers.get(calibration.manifest.upscaler)
    if upscaler is None:
        return None
    try:
        return differences(calibration.pipeline, upscaler)
    except UpscalerUnavailable:
        return None
