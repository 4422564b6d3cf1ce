"""Calibrations that exist: read, tested, exported, activated, deleted; their pairs and labels."""

from __future__ import annotations

import json
import re
from functools import partial
from itertools import islice
from typing import Annotated, Literal

from fastapi import Body, File, Header, Query, Request, UploadFile
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from trustscale_server.calibrating import labels, pair_pictures
from trustscale_server.calibrating.archive import ArchiveLimits, archive_files
from trustscale_server.calibrating.documents import (
    ActivationOut,
    CalibrationDetail,
    CalibrationRow,
    CurvePoint,
    PairDetail,
    PendingCalibration,
    PendingRow,
    finished_rows,
    pending,
    pending_rows,
)
from trustscale_server.calibrating.labels import WaitingPair
from trustscale_server.calibration import file
from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.insight import MAX_SPLITS, Backtest, backtest_of, coarser
from trustscale_server.http.forms import MAX_JSON_BYTES
from trustscale_server.http.openapi import body_of, file_response
from trustscale_server.http.pairs_form import FORCE, MAX_ARCHIVE_BYTES, MAX_FILE_BYTES
from trustscale_server.http.problems import problem_responses
from trustscale_server.http.routes.jobs import job_accepted
from trustscale_server.http.state import AdminDep, State, StateDep, admin_router
from trustscale_server.jobs.document import JobOut
from trustscale_server.platform.abandoned import in_spare_thread
from trustscale_server.platform.errors import BadRequest, NotFound
from trustscale_server.stores.base import JobStatus

_ROWS_AT_ONCE = 5000
_ETAG = r'^"v(\d{1,9})"$'

router = admin_router("calibrations", "not-found", "conflict", "bad-request")

_GROUP_PROBLEMS = problem_responses("bad-group", "bad-request")
_Group = Annotated[str | None, Query(min_length=1, description="Only the pairs of this group.")]


class RewrittenPlace(BaseModel):
    """The place of a pair that the model rewrote most."""

    box: tuple[int, int, int, int] = Field(
        description="Left, top, right and bottom, in pixels of the original."
    )
    badness: float = Field(description="How much, in [0, 1]; 0: nothing that can be seen.")


class ActivateIn(BaseModel):
    """How to activate; by default nothing is forced, and the others stay active."""

    model_config = ConfigDict(extra="forbid")

    force: bool = Field(False, description=FORCE)
    only: bool = Field(False, description="Make it the only active one of its upscaler.")


@router.get("")
async def list_calibrations(
    state: StateDep,
    _: AdminDep,
    upscaler: str | None = None,
    listed: Annotated[
        Literal["finished", "pending"],
        Query(alias="state", description="pending: the jobs that are making calibrations."),
    ] = "finished",
) -> list[CalibrationRow] | list[PendingRow]:
    """List the finished calibrations, or the jobs of those that are being made.

    The newest is first.
    """
    if listed == "pending":
        return await pending_rows(state.stores, upscaler)
    return await finished_rows(state.stores, upscaler)


@router.get("/{calibration_id}", responses=_GROUP_PROBLEMS)
async def get_calibration(
    calibration_id: str,
    state: StateDep,
    _: AdminDep,
    n_leaked: Annotated[
        int | None, Query(ge=0, description="How many of X were training images of the model.")
    ] = None,
    group: _Group = None,
) -> CalibrationDetail | PendingCalibration:
    """Read a calibration, or the job that makes it."""
    resolved = await state.admin.resolve(calibration_id)
    if isinstance(resolved, JobStatus):
        return await pending(state.stores, resolved)
    return await state.admin.detail(resolved, group, n_leaked=n_leaked)


@router.get("/{calibration_id}/curve", response_model=list[CurvePoint], responses=_GROUP_PROBLEMS)
async def get_curve(
    calibration_id: str,
    state: StateDep,
    _: AdminDep,
    group: _Group = None,
    points: Annotated[
        int | None,
        Query(
            ge=1, description="The most steps of the curve; a joined step takes the higher value."
        ),
    ] = None,
) -> Response:
    """Read the risk curve of a calibration.

    From each threshold on, up to the next one, it is the risk or the bound on it.
    """
    calibration = await state.admin.finished(calibration_id)

    def answer() -> Response:
        curve = calibration.subset(group).curve
        steps = zip(*coarser(curve, points or len(curve.risks)), strict=True)
        rows = ({"threshold": t, "risk": r} for t, r in steps)
        # In parts: encoding one long list would block all other threads.
        batches = iter(lambda: list(islice(rows, _ROWS_AT_ONCE)), [])
        texts = (
            json.dumps(batch, allow_nan=False, separators=(",", ":"))[1:-1] for batch in batches
        )
        return Response(f"[{','.join(texts)}]", media_type="application/json")

    # The JSON of millions of steps takes seconds.
    return await in_spare_thread(answer)


@router.get("/{calibration_id}/backtest", responses=_GROUP_PROBLEMS)
async def get_backtest(
    calibration_id: str,
    state: StateDep,
    _: AdminDep,
    splits: Annotated[int, Query(ge=1, le=MAX_SPLITS)] = 100,
    group: _Group = None,
) -> Backtest:
    """Read what to expect from a calibration.

    It has the realised risk and trusted area over random halvings of the pairs, and checks.
    """
    subset = (await state.admin.finished(calibration_id)).subset(group)
    return await in_spare_thread(backtest_of, subset, splits)


@router.get(
    "/{calibration_id}/export", response_class=Response, responses=file_response(file.MEDIA_TYPE)
)
async def export_calibration(calibration_id: str, state: StateDep, _: AdminDep) -> Response:
    """Export a calibration as one self-describing file."""
    calibration = await state.admin.finished(calibration_id)
    name = f"{calibration.id}{file.SUFFIX}"
    return Response(
        await in_spare_thread(file.dump, calibration),
        media_type=file.MEDIA_TYPE,
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


@router.post(
    "/{calibration_id}/activate",
    responses=problem_responses("conflict", "calibration-mismatch"),
    max_body_size=MAX_JSON_BYTES,
)
async def activate_calibration(
    calibration_id: str,
    state: StateDep,
    actor: AdminDep,
    # Not "or null": some generated clients cannot leave such a body out.
    options: Annotated[ActivateIn, Body(default_factory=ActivateIn)],
) -> ActivationOut:
    """Serve from a calibration, before the active ones or alone.

    The answer lists what each of them answers now. An upload is answered from the first that covers
    its class and size. Activating `previous` is the way back. 409 `conflict` with `changes` if it
    would serve worse: its smallest α is above its default α, or its trusted area is less than half
    of the present one's.
    """
    calibration = await state.admin.finished(calibration_id)
    return await state.admin.activate(calibration, actor, force=options.force, only=options.only)


@router.delete("/{calibration_id}", status_code=204)
async def delete_calibration(calibration_id: str, state: StateDep, actor: AdminDep) -> Response:
    """Remove a calibration that is not active.

    No pending job may extend it.
    """
    await state.admin.delete(calibration_id, actor)
    return Response(status_code=204)


@router.get("/{calibration_id}/pairs")
async def list_pairs(
    calibration_id: str, state: StateDep, _: AdminDep
) -> list[PairDetail] | list[WaitingPair]:
    """List the pairs of a calibration.

    While labels are awaited it says which pairs still need one.
    """
    resolved = await state.admin.resolve(calibration_id)
    if isinstance(resolved, JobStatus):
        return await state.admin.labelling.pairs(resolved)
    return [
        PairDetail(**info.model_dump(), spots=int(spots))
        for info, spots in zip(resolved.manifest.pairs, resolved.spots, strict=True)
    ]


@router.delete("/{calibration_id}/pairs/{name:path}", status_code=201)
async def remove_pair(
    calibration_id: str, name: str, response: Response, state: StateDep, actor: AdminDep
) -> CalibrationDetail:
    """Make a calibration without this pair.

    It is made of the stored loss curves.
    """
    parent = await state.admin.finished(calibration_id)
    smaller = await state.admin.without_pair(parent, name, created_by=actor)
    response.headers["Location"] = f"{router.prefix}/{smaller.id}"
    return await state.admin.detail(smaller)


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
    resolved, blobs = await state.admin.resolve(calibration_id), state.stores.blobs
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
    """Find the place of a pair that the model rewrote most, while its files are kept.

    As `POST /v1/results/{id}/catch` does.
    """
    resolved = await state.admin.resolve(calibration_id)
    async with state.service.context.drawing.slot():
        place = await pair_pictures.worst_of(_pictures_of(state, resolved), name)
    if place is None:
        return RewrittenPlace(box=(0, 0, 0, 0), badness=0.0)
    return RewrittenPlace(box=place.box, badness=place.badness)


def _pictures_of(state: State, resolved: JobStatus | Calibration) -> pair_pictures.Reading:
    """What reads the pictures of the pairs of a job, or of a calibration."""
    read = pair_pictures.of_job if isinstance(resolved, JobStatus) else pair_pictures.of_calibration
    return partial(read, state.stores.blobs, resolved.id)


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
    seen, body = _seen(if_match, if_none_match), await request.body()
    job = await _pending(state, calibration_id)  # after the body: a slow upload may outlast it
    version = await state.admin.labelling.put(job, name, body, actor, seen=seen)
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
    job = await _pending(state, calibration_id)
    labelling = state.admin.labelling
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
    job = await _pending(state, calibration_id)
    return job_accepted(await state.admin.labelling.finish(job, actor))


async def _pending(state: StateDep, calibration_id: str) -> JobStatus:
    resolved = await state.admin.resolve(calibration_id)
    if not isinstance(resolved, JobStatus):
        raise NotFound(f"{calibration_id!r} is finished; its labels cannot change.")
    return resolved


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
    match = re.fullmatch(_ETAG, if_match.strip())
    if match is None:
        raise BadRequest(f"If-Match is the ETag of a label, not {if_match[:40]!r}.")
    return int(match[1])
