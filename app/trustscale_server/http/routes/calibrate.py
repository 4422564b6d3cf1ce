"""Calibrations are made over HTTP: from pairs, more pairs, a file, or under another guarantee."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Depends, Form, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from trustscale_server.calibrating.config import CalibrationConfig
from trustscale_server.calibrating.create import Plan
from trustscale_server.calibrating.detail import CalibrationDetail
from trustscale_server.calibration import file
from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.guarantee_kinds import AnyGuarantee
from trustscale_server.http.access import AdminDep, admin_router
from trustscale_server.http.connection import while_connected
from trustscale_server.http.forms import MAX_JSON_BYTES, check_fields
from trustscale_server.http.idempotency import IdempotencyKey, StoredResponse
from trustscale_server.http.openapi import CONFIG, body_of
from trustscale_server.http.pairs_form import (
    FORCE,
    MAX_ARCHIVE_BYTES,
    MAX_FILE_BYTES,
    MorePairsForm,
    PairsForm,
    calibration_config_of,
)
from trustscale_server.http.problems import problem_responses
from trustscale_server.http.routes.jobs import job_accepted
from trustscale_server.http.state import State, StateDep
from trustscale_server.jobs.document import JobOut
from trustscale_server.platform.errors import BadRequest

MAX_FILES: Final = 500  # each is open until the request ends; archives take more

router = admin_router()

_CALIBRATIONS = "/calibrations"
_DRY_RUN_RESPONSE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": Plan, "description": "What it would take (`dry_run`)."}
}
_CREATE_PROBLEMS = problem_responses(
    "not-found", "bad-pairs", "bad-request", "image-too-large", "unsupported-media"
)
_FORM_LIMITS: Any = {"max_files": MAX_FILES, "max_part_size": 1024 * 1024}


@router.post(
    _CALIBRATIONS,
    status_code=202,
    response_model=JobOut,
    responses={**_DRY_RUN_RESPONSE, **_CREATE_PROBLEMS},
    max_body_size=MAX_ARCHIVE_BYTES,
    form_limits=_FORM_LIMITS,
)
async def create_calibration(
    request: Request,
    state: StateDep,
    actor: AdminDep,
    form: Annotated[PairsForm, Depends()],
    config: Annotated[
        str, Form(description="JSON; every field has a default.", json_schema_extra=CONFIG)
    ] = "{}",
    _: IdempotencyKey = None,
) -> Response:
    """Calibrate an upscaler from pairs, or from high-resolution images alone.

    Where pairs are measured already under the same settings, nothing is generated again.
    """
    state.services.settings.webhooks.raise_if_refused(form.webhook)
    settings = calibration_config_of(config)
    _raise_if_ambiguous(state, settings)
    return await _begin_job(request, state, actor, settings, form)


@router.post(
    f"{_CALIBRATIONS}/import",
    status_code=201,
    response_model=CalibrationDetail,
    responses=problem_responses(
        "bad-calibration", "bad-request", "calibration-mismatch", "conflict"
    ),
    max_body_size=MAX_FILE_BYTES,
    openapi_extra=body_of(file.MEDIA_TYPE, form_file="file"),
)
async def import_calibration(
    request: Request,
    state: StateDep,
    actor: AdminDep,
    activate: bool = False,
    force: Annotated[bool, Query(description=FORCE)] = False,
    _: IdempotencyKey = None,
) -> Response:
    """Store a calibration file, which is the body or the file `file` of a form."""
    data, admin = await _sent_file(request), state.services.admin

    async def make() -> StoredResponse:
        calibration = await admin.import_file(data, actor, activate=activate, force=force)
        return StoredResponse(calibration.id, await recall(calibration.id))

    async def recall(calibration: str) -> Response:
        document = await admin.detail(await admin.finished(calibration))
        return JSONResponse(
            document.model_dump(mode="json"), status_code=201, headers=_location(calibration)
        )

    return await state.idempotency.once(request, actor, make, recall, body=data)


@router.post(
    f"{_CALIBRATIONS}/{{calibration_id}}/pairs",
    status_code=202,
    response_model=JobOut,
    responses={
        **_DRY_RUN_RESPONSE,
        **_CREATE_PROBLEMS,
        **problem_responses("conflict", "calibration-mismatch"),
    },
    max_body_size=MAX_ARCHIVE_BYTES,
    form_limits=_FORM_LIMITS,
)
async def extend_calibration(
    request: Request,
    calibration_id: str,
    state: StateDep,
    actor: AdminDep,
    form: Annotated[MorePairsForm, Depends()],
    _: IdempotencyKey = None,
) -> Response:
    """Calibrate from the pairs of a calibration and further ones.

    Nothing is generated again for the old ones.
    """
    state.services.settings.webhooks.raise_if_refused(form.webhook)
    parent = await state.services.admin.finished(calibration_id)
    config = CalibrationConfig.from_manifest(
        parent.manifest, activate=form.activate, force=form.force
    )
    return await _begin_job(request, state, actor, config, form, parent)


class FidelityIn(BaseModel):
    """The settings of the fidelity error that can change without new samples."""

    model_config = ConfigDict(extra="forbid")

    bound: float = Field(gt=0, allow_inf_nan=False, description="c: larger errors count as c.")


class DeriveIn(BaseModel):
    """How a derived calibration differs from its parent."""

    model_config = ConfigDict(extra="forbid")

    guarantee: AnyGuarantee | None = Field(
        None, description="The guarantee; default: that of the old calibration."
    )
    fidelity: FidelityIn | None = Field(
        None, description="The bound of the error; default: that of the old calibration."
    )
    name: str | None = Field(
        None, max_length=200, description="The name; default: that of the old calibration."
    )
    activate: bool = False
    force: bool = Field(False, description=FORCE)

    @model_validator(mode="after")
    def _changes_something(self) -> DeriveIn:
        if self.guarantee is None and self.fidelity is None:
            raise ValueError("name a guarantee or a fidelity with a bound")
        return self


@router.post(
    f"{_CALIBRATIONS}/{{calibration_id}}/derive",
    status_code=201,
    responses=problem_responses("not-found", "bad-request", "conflict", "calibration-mismatch"),
    max_body_size=MAX_JSON_BYTES,
)
async def derive_calibration(
    calibration_id: str, derivation: DeriveIn, response: Response, state: StateDep, actor: AdminDep
) -> CalibrationDetail:
    """Derive a calibration with another guarantee or bound.

    It is made of the stored loss curves; nothing is generated.
    """
    parent = await state.services.admin.finished(calibration_id)
    derived = await state.services.admin.derive(
        parent,
        derivation.guarantee,
        bound=derivation.fidelity.bound if derivation.fidelity else None,
        actor=actor,
        name=derivation.name,
        activate=derivation.activate,
        force=derivation.force,
    )
    response.headers.update(_location(derived.id))
    return await state.services.admin.detail(derived)


def _location(calibration: str) -> dict[str, str]:
    return {"Location": f"{router.prefix}{_CALIBRATIONS}/{calibration}"}


def _raise_if_ambiguous(state: State, config: CalibrationConfig) -> None:
    """Raise BadRequest where only an upload would decide which upscaler is meant."""
    names = [upscaler.name for upscaler in state.context.candidates(config.upscaler)]
    if len(names) > 1:
        reason = f"the class of an upload decides between {' and '.join(names)}; name one of them"
        items = [{"field": "upscaler", "reason": reason}]
        raise BadRequest(f"config: upscaler: {reason}.", fields=items)


async def _begin_job(
    request: Request,
    state: State,
    actor: str,
    config: CalibrationConfig,
    form: PairsForm,
    parent: Calibration | None = None,
) -> Response:
    """Begin the job that measures the pairs of a form; with `dry_run` say what it would take."""
    if form.dry_run:
        submission = form.submission(actor, parent)
        plan = await while_connected(request, state.services.creator.plan(config, submission))
        return JSONResponse(plan.model_dump(mode="json"))

    async def make() -> StoredResponse:
        submission = form.submission(actor, parent)
        job = await state.services.creator.create(config, submission, webhook=form.webhook)
        return StoredResponse(job.id, job_accepted(job))

    async def recall(job_id: str) -> Response:
        return job_accepted(await state.services.stores.jobs.get(job_id))

    return await state.idempotency.once(request, actor, make, recall)


async def _sent_file(request: Request) -> bytes:
    """The body, or the form file `file`. Raises BadRequest if there is none."""
    if not request.headers.get("content-type", "").startswith("multipart/"):
        return await request.body()
    async with request.form(max_files=1) as form:
        check_fields(form, {"file": True})
        sent = form.get("file")
        if sent is None or isinstance(sent, str):
            raise BadRequest("The form has no file named file; with curl: -F file=@FILE.")
        return await sent.read()
