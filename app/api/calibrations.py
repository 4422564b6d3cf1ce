"""Calibrations that exist, over HTTP: read, tested, exported, activated, deleted."""

from __future__ import annotations

import asyncio
import json
from itertools import islice
from typing import Annotated, Literal

from fastapi import Body, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from app.api.calibrate import FORCE
from app.api.deps import AdminDep, StateDep, admin_router
from app.api.documents import (
    Activation,
    Backtest,
    CalibrationDetail,
    CalibrationRow,
    CurvePoint,
    Leakage,
    PairDetail,
    PendingCalibration,
    PendingRow,
    activation_of,
    detail,
)
from app.api.openapi import file_response
from app.api.problems import problem_responses
from app.calibration import file
from app.calibration.insight import coarser, expected, leaked
from app.calibration.labels import WaitingPair
from app.stores.base import JobStatus

_ROWS_AT_ONCE = 5000

router = admin_router("calibrations", "not-found", "conflict", "bad-request")

_GROUP_PROBLEMS = problem_responses("bad-group", "bad-request")
Group = Annotated[str | None, Query(description="Only the pairs of this group.")]


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
    """All finished calibrations, or the jobs of those that are being made, the newest first."""
    if listed == "pending":
        jobs = await state.stores.jobs.pending("calibration")
        return [PendingRow.of(job) for job in jobs if upscaler in {None, job.about["upscaler"]}]
    active = await state.stores.calibrations.active()
    ids = {one for item in active.values() for one in item.calibrations}
    previous = {item.calibration: item.previous for item in active.values()}
    heads = await state.stores.calibrations.heads(upscaler)
    return [
        CalibrationRow(**head.model_dump(), active=head.id in ids, previous=previous.get(head.id))
        for head in heads
    ]


@router.get("/{calibration_id}", responses=_GROUP_PROBLEMS)
async def get_calibration(
    calibration_id: str,
    state: StateDep,
    _: AdminDep,
    n_leaked: Annotated[int | None, Query(ge=0, description="Training images among X.")] = None,
    group: Group = None,
) -> CalibrationDetail | PendingCalibration:
    """One calibration; while it is being made, its job."""
    found = await state.admin.resolve(calibration_id)
    if isinstance(found, JobStatus):
        return PendingCalibration(id=found.id, state=found.state, job=PendingRow.of(found))
    document = await detail(state, found, group)
    if n_leaked is not None:
        bound = leaked(found.of_group(group), n_leaked)
        document.leakage = Leakage(n_leaked=n_leaked, bound=bound)
    return document


@router.get("/{calibration_id}/curve", response_model=list[CurvePoint], responses=_GROUP_PROBLEMS)
async def get_curve(
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
        # In parts: encoding one long list would block all other threads.
        parts = iter(lambda: list(islice(rows, _ROWS_AT_ONCE)), [])
        texts = (json.dumps(part, allow_nan=False, separators=(",", ":"))[1:-1] for part in parts)
        return Response(f"[{','.join(texts)}]", media_type="application/json")

    # The JSON of millions of steps takes seconds.
    return await asyncio.to_thread(answer)


@router.get("/{calibration_id}/backtest", responses=_GROUP_PROBLEMS)
async def get_backtest(
    calibration_id: str,
    state: StateDep,
    _: AdminDep,
    splits: Annotated[int, Query(ge=1, le=1000)] = 100,
    group: Group = None,
) -> Backtest:
    """What to expect: realised risk and trusted area over random halvings, and checks."""
    calibration = (await state.admin.finished(calibration_id)).of_group(group)
    return Backtest(**await asyncio.to_thread(expected, calibration, splits))


@router.get(
    "/{calibration_id}/export", response_class=Response, responses=file_response(file.MEDIA_TYPE)
)
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
    "/{calibration_id}/activate", responses=problem_responses("conflict", "calibration-mismatch")
)
async def activate_calibration(
    calibration_id: str,
    state: StateDep,
    actor: AdminDep,
    # Not "or null": some generated clients cannot leave such a body out.
    asked: Annotated[ActivateIn, Body(default_factory=ActivateIn)],
) -> Activation:
    """Put it before the active ones, or alone; the answer lists what each of them answers now.

    An upload is answered from the first that covers its class and size. Activating `previous` is
    the way back. 409 `conflict` with `changes` if it would serve worse: its smallest α is above its
    default α, or its trusted area is less than half of the present one's.
    """
    calibration = await state.admin.finished(calibration_id)
    before = await state.calibrations.active_ids(calibration.manifest.upscaler)
    done, changes = await state.admin.activate(calibration, force=asked.force, only=asked.only)
    await state.audit(
        "calibration.activate",
        actor,
        calibration=done.calibration,
        previous=done.previous,
        only=asked.only,
    )
    return await activation_of(state, done, changes, before)


@router.delete("/{calibration_id}", status_code=204)
async def delete_calibration(calibration_id: str, state: StateDep, actor: AdminDep) -> Response:
    """Remove a calibration that is not active, and that no pending job extends."""
    await state.admin.delete(calibration_id)
    await state.audit("calibration.delete", actor, calibration=calibration_id)
    return Response(status_code=204)


@router.get("/{calibration_id}/pairs")
async def list_pairs(
    calibration_id: str, state: StateDep, _: AdminDep
) -> list[PairDetail] | list[WaitingPair]:
    """The pairs; while labels are awaited, which ones still need one."""
    found = await state.admin.resolve(calibration_id)
    if isinstance(found, JobStatus):
        return await state.admin.labelling.pairs(found)
    return [
        PairDetail(**info.model_dump(), breakpoints=len(staircase))
        for info, staircase in zip(found.manifest.pairs, found.staircases, strict=True)
    ]


@router.delete("/{calibration_id}/pairs/{name}", status_code=201)
async def remove_pair(
    calibration_id: str, name: str, response: Response, state: StateDep, actor: AdminDep
) -> CalibrationDetail:
    """A new calibration without this pair, from the stored staircases."""
    parent = await state.admin.finished(calibration_id)
    smaller = await state.admin.without_pair(parent, name, created_by=actor)
    await state.audit(
        "calibration.remove_pair", actor, parent=parent.id, pair=name, calibration=smaller.id
    )
    response.headers["Location"] = f"{router.prefix}/{smaller.id}"
    return await detail(state, smaller)
