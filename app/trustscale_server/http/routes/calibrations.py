"""Calibrations that exist: read, tested, exported, activated, deleted."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Body, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from trustscale_server.calibrating.activation import ActivationOut
from trustscale_server.calibrating.detail import CalibrationDetail
from trustscale_server.calibrating.rows import (
    CalibrationRow,
    PendingCalibration,
    PendingRow,
    finished_rows,
    pending,
    pending_rows,
)
from trustscale_server.calibration import file
from trustscale_server.http.access import AdminDep, admin_router
from trustscale_server.http.forms import MAX_JSON_BYTES
from trustscale_server.http.openapi import file_response
from trustscale_server.http.pairs_form import FORCE
from trustscale_server.http.problems import problem_responses
from trustscale_server.http.state import StateDep
from trustscale_server.platform.abandoned import in_spare_thread
from trustscale_server.stores.job_status import JobStatus

router = admin_router("calibrations", "not-found", "conflict", "bad-request")

_GROUP_PROBLEMS = problem_responses("bad-group", "bad-request")
_Group = Annotated[str | None, Query(min_length=1, description="Only the pairs of this group.")]


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
        return await pending_rows(state.services.stores, upscaler)
    return await finished_rows(state.services.stores, upscaler)


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
    resolved = await state.services.admin.resolve(calibration_id)
    if isinstance(resolved, JobStatus):
        return pending(resolved)
    return await state.services.admin.detail(resolved, group, n_leaked=n_leaked)


@router.get(
    "/{calibration_id}/export", response_class=Response, responses=file_response(file.MEDIA_TYPE)
)
async def export_calibration(calibration_id: str, state: StateDep, _: AdminDep) -> Response:
    """Export a calibration as one self-describing file."""
    calibration = await state.services.admin.finished(calibration_id)
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
    admin = state.services.admin
    calibration = await admin.finished(calibration_id)
    return await admin.activate(calibration, actor, force=options.force, only=options.only)


@router.delete("/{calibration_id}", status_code=204)
async def delete_calibration(calibration_id: str, state: StateDep, actor: AdminDep) -> Response:
    """Remove a calibration that is not active.

    No pending job may extend it.
    """
    await state.services.admin.delete(calibration_id, actor)
    return Response(status_code=204)
