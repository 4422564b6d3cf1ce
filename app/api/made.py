"""Calibrations are made over HTTP: from pairs, more pairs, a file, or under another guarantee."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

from fastapi import Form, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.api.deps import AdminDep, State, StateDep, admin_router, check_fields
from app.api.document import CONFIG, body_of
from app.api.documents import CalibrationDetail, detail
from app.api.idempotency import IdempotencyKey, StoredResponse
from app.api.jobs import JobOut, accepted
from app.api.pair_forms import MAX_FILE_BYTES, PairsFormDep, config_of
from app.api.problems import problem_responses
from app.calibration import file
from app.calibration.config import CalibrationConfig
from app.calibration.guarantee import AnyGuarantee
from app.errors import BadRequest
from app.images.facts import OF_UPLOADS

MAX_ARCHIVE_BYTES = 64 * 1024**3
MAX_FILES = 500  # each is open until the request ends; archives take more

router = admin_router("calibrations")

_CREATE_PROBLEMS = problem_responses(
    "not-found", "bad-pairs", "bad-request", "image-too-large", "unsupported-media"
)
_FORM_LIMITS: Any = {"max_files": MAX_FILES, "max_part_size": 1024 * 1024}

Config = Annotated[
    str, Form(description="JSON; every field has a default.", json_schema_extra=CONFIG)
]
FORCE: Final = "Activate it also if it would serve worse."
Force = Annotated[bool, Query(description=FORCE)]


@router.post(
    "",
    status_code=202,
    response_model=JobOut,
    responses=_CREATE_PROBLEMS,
    max_body_size=MAX_ARCHIVE_BYTES,
    form_limits=_FORM_LIMITS,
)
async def create_calibration(
    request: Request,
    state: StateDep,
    actor: AdminDep,
    form: PairsFormDep,
    config: Config = "{}",
    _: IdempotencyKey = None,
) -> Response:
    """Calibrate from pairs, or only from high-resolution images and a degradation."""
    state.settings.webhooks.check(form.webhook)

    async def make() -> StoredResponse:
        job = await state.admin.create(
            config_of(config),
            form.files,
            created_by=actor,
            naming=form.naming,
            table=form.table(),
            webhook=form.webhook,
        )
        await state.audit("calibration.create", actor, job=job.id)
        return StoredResponse(job.id, accepted(job))

    return await _once(request, state, actor, make)


@router.post(
    "/import",
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
    force: Force = False,
    _: IdempotencyKey = None,
) -> Response:
    """Store a calibration file: the body, or the form file `file`."""
    data = await _sent_file(request)

    async def make() -> StoredResponse:
        calibration = await state.admin.import_file(data, activate=activate, force=force)
        await state.audit(
            "calibration.import", actor, calibration=calibration.id, activate=activate
        )
        return StoredResponse(calibration.id, await recall(calibration.id))

    async def recall(calibration: str) -> Response:
        document = await detail(state, await state.admin.finished(calibration))
        return JSONResponse(
            document.model_dump(mode="json"),
            status_code=201,
            headers={"Location": f"{router.prefix}/{calibration}"},
        )

    return await state.idempotency.once(request, actor, make, recall, body=data)


async def _sent_file(request: Request) -> bytes:
    """The body, or the form file `file`. Raises BadRequest if there is none."""
    if not request.headers.get("content-type", "").startswith("multipart/"):
        return await request.body()
    async with request.form(max_files=1) as form:
        check_fields(form, {"file": True})
        sent = form.get("file")
        if sent is None or isinstance(sent, str):
            raise BadRequest("The form has no file named file.")
        return await sent.read()


@router.post(
    "/{calibration_id}/pairs",
    status_code=202,
    response_model=JobOut,
    responses={**_CREATE_PROBLEMS, **problem_responses("conflict", "calibration-mismatch")},
    max_body_size=MAX_ARCHIVE_BYTES,
    form_limits=_FORM_LIMITS,
)
async def extend_calibration(
    request: Request,
    calibration_id: str,
    state: StateDep,
    actor: AdminDep,
    form: PairsFormDep,
    activate: Annotated[bool, Form()] = False,
    force: Annotated[bool, Form(description=FORCE)] = False,
    _: IdempotencyKey = None,
) -> Response:
    """A new calibration of the old pairs and these; nothing is generated again for the old ones."""
    state.settings.webhooks.check(form.webhook)

    async def make() -> StoredResponse:
        parent = await state.admin.finished(calibration_id)
        job = await state.admin.create(
            CalibrationConfig.of(parent.manifest, activate=activate, force=force),
            form.files,
            created_by=actor,
            naming=form.naming,
            table=form.table(),
            webhook=form.webhook,
            parent=parent,
        )
        await state.audit("calibration.extend", actor, parent=parent.id, job=job.id)
        return StoredResponse(job.id, accepted(job))

    return await _once(request, state, actor, make)


class FidelityIn(BaseModel):
    """Of the fidelity error, what can be changed without generating."""

    model_config = ConfigDict(extra="forbid")

    bound: float = Field(gt=0, allow_inf_nan=False, description="c: larger errors count as c.")


class DeriveIn(BaseModel):
    """What the new calibration differs in."""

    model_config = ConfigDict(extra="forbid")

    guarantee: AnyGuarantee | None = Field(None, description="Default: that of the old one.")
    fidelity: FidelityIn | None = Field(None, description="Default: the bound of the old one.")
    input_rule: str | None = Field(
        None, pattern=f"^({'|'.join(OF_UPLOADS)})$", description="Default: that of the old one."
    )
    name: str | None = Field(None, max_length=200, description="Default: that of the old one.")
    activate: bool = False
    force: bool = Field(False, description=FORCE)

    @model_validator(mode="after")
    def _says_something(self) -> DeriveIn:
        if self.guarantee is None and self.fidelity is None and self.input_rule is None:
            raise ValueError("name a guarantee, a fidelity with a bound, or an input_rule")
        return self


@router.post(
    "/{calibration_id}/derive",
    status_code=201,
    responses=problem_responses("not-found", "bad-request", "conflict", "calibration-mismatch"),
)
async def derive_calibration(
    calibration_id: str, asked: DeriveIn, response: Response, state: StateDep, actor: AdminDep
) -> CalibrationDetail:
    """A new calibration with another guarantee, bound or rule, from the stored staircases."""
    parent = await state.admin.finished(calibration_id)
    if asked.activate:
        # First, or a refusal would leave a calibration behind.
        await state.admin.check(parent)
    made = await state.admin.derive(
        parent,
        asked.guarantee,
        bound=asked.fidelity.bound if asked.fidelity else None,
        input_rule=asked.input_rule,
        created_by=actor,
        name=asked.name,
        to_activate=asked.activate,
        force=asked.force,
    )
    activated = False
    try:
        if asked.activate:
            await state.admin.activate(made, force=asked.force)
            activated = True
    finally:  # it is stored, whatever has become of its activation
        await state.audit(
            "calibration.derive", actor, parent=parent.id, calibration=made.id, activate=activated
        )
    response.headers["Location"] = f"{router.prefix}/{made.id}"
    return await detail(state, made)


async def _once(
    request: Request, state: State, actor: str, make: Callable[[], Awaitable[StoredResponse]]
) -> Response:
    """202 with the job that is made, or that was made by the same request before."""

    async def recall(job: str) -> Response:
        return accepted(await state.stores.jobs.get(job))

    return await state.idempotency.once(request, actor, make, recall)
