"""Calibrations are made over HTTP: from pairs, more pairs, a file, or under another guarantee.

Also what a form needs before: the choices, and which file names make pairs.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated, Any, Final

from fastapi import Depends, File, Form, Query, Request, UploadFile
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from trustscale_server.calibrating.archive import ArchiveLimits, archive_files
from trustscale_server.calibrating.config import CalibrationConfig
from trustscale_server.calibrating.create import Plan, Submission
from trustscale_server.calibrating.documents import CalibrationDetail
from trustscale_server.calibrating.layout import GroupingRule, NamedFile, arrange, place_of
from trustscale_server.calibrating.pair_source import Role
from trustscale_server.calibration import file
from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.guarantees import AnyGuarantee
from trustscale_server.calibration.insight import Item
from trustscale_server.conformal.fidelity import METRICS, ErrorUnit, FidelitySettings
from trustscale_server.http.connection import while_connected
from trustscale_server.http.forms import MAX_JSON_BYTES, check_fields
from trustscale_server.http.idempotency import IdempotencyKey, StoredResponse
from trustscale_server.http.openapi import CONFIG, body_of
from trustscale_server.http.problems import problem_responses
from trustscale_server.http.routes.jobs import Webhook, job_accepted
from trustscale_server.http.state import AdminDep, State, StateDep, admin_router
from trustscale_server.images.degrade import USUAL
from trustscale_server.jobs.document import JobOut
from trustscale_server.platform.config_errors import field_names, reason, together
from trustscale_server.platform.errors import BadRequest, ImageTooLarge
from trustscale_server.sampling.sigma.estimators import ESTIMATORS
from trustscale_server.things import reading

MAX_ARCHIVE_BYTES: Final = 64 * 1024**3
MAX_FILE_BYTES: Final = 256 * 1024 * 1024
MAX_FILES: Final = 500  # each is open until the request ends; archives take more
_MAX_NAMES: Final = 100_000  # the files of the largest upload, and some more
_MAX_NAMES_BYTES: Final = 16 * 2**20  # with the digests of their pixels
_MAX_PATH: Final = 4096  # no system has longer ones

router = admin_router()

_CALIBRATIONS = "/calibrations"
_PLANNED: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": Plan, "description": "What it would take (`dry_run`)."}
}
_CREATE_PROBLEMS = problem_responses(
    "not-found", "bad-pairs", "bad-request", "image-too-large", "unsupported-media"
)
_FORM_LIMITS: Any = {"max_files": MAX_FILES, "max_part_size": 1024 * 1024}
_TAGS = {(1, "steps"), (1, "mixture")}  # pydantic's, behind "degradation"

Config = Annotated[
    str, Form(description="JSON; every field has a default.", json_schema_extra=CONFIG)
]
FORCE: Final = "Activate it also if it would serve worse."
Force = Annotated[bool, Query(description=FORCE)]


@dataclass(frozen=True, slots=True)
class PairsForm:
    """The fields of a form that bring pairs."""

    manifest: Annotated[
        UploadFile | None,
        File(
            description="CSV whose column name or file names the pairs, others what they belong "
            "to; default: manifest.csv in the archive."
        ),
    ] = None
    group_by: Annotated[
        str | None, Form(description="What names groups: folder, or a column of the manifest.")
    ] = None
    scene_by: Annotated[
        str | None,
        Form(
            description="What names scenes (crops of one photograph, frames of one camera run): "
            "folder, manifest, or a column of it."
        ),
    ] = None
    archive: Annotated[UploadFile | None, File(description="zip, tar or tar.gz")] = None
    x: Annotated[list[UploadFile] | None, File()] = None
    y: Annotated[list[UploadFile] | None, File()] = None
    enlarged: Annotated[
        list[UploadFile] | None,
        File(description="For an upscaler of the kind `supplied`: what it made of each x."),
    ] = None
    webhook: Webhook = None
    dry_run: Annotated[
        bool,
        Form(
            description="Check the pairs and say what they would take; nothing is stored or "
            "generated."
        ),
    ] = False

    def submission(self, actor: str, parent: Calibration | None = None) -> Submission:
        """Return what the form brings to calibrate with."""
        return Submission(
            self.files,
            actor,
            GroupingRule(self.group_by or None, self.scene_by or None),
            None if self.manifest is None else _content(self.manifest),
            parent,
        )

    def files(self) -> Iterator[NamedFile]:
        """Yield the uploaded files, read one at a time. Raises BadRequest, ImageTooLarge."""
        if self.archive is None:
            sent: dict[Role, list[UploadFile] | None] = {
                "x": self.x,
                "y": self.y,
                "enlarged": self.enlarged,
            }
            return _form_files({role: files or [] for role, files in sent.items()})
        if self.x or self.y or self.enlarged:
            raise BadRequest("Send either archive, or files x, y and enlarged.")
        return archive_files(self.archive.file, ArchiveLimits())


@dataclass(frozen=True, slots=True)
class MorePairsForm(PairsForm):
    """The fields of a form that bring further pairs, and what is done with the result."""

    activate: Annotated[bool, Form()] = False
    force: Annotated[bool, Form(description=FORCE)] = False


_PairsFormDep = Annotated[PairsForm, Depends()]


@router.post(
    _CALIBRATIONS,
    status_code=202,
    response_model=JobOut,
    responses={**_PLANNED, **_CREATE_PROBLEMS},
    max_body_size=MAX_ARCHIVE_BYTES,
    form_limits=_FORM_LIMITS,
)
async def create_calibration(
    request: Request,
    state: StateDep,
    actor: AdminDep,
    form: _PairsFormDep,
    config: Config = "{}",
    _: IdempotencyKey = None,
) -> Response:
    """Calibrate an upscaler from pairs, or from high-resolution images alone.

    Where pairs are measured already under the same settings, nothing is generated again.
    """
    state.settings.webhooks.raise_if_refused(form.webhook)
    settings = _of_one_upscaler(state, calibration_config_of(config))
    if form.dry_run:
        return await _planned(request, state, settings, form.submission(actor))

    async def make() -> StoredResponse:
        job = await state.creator.create(settings, form.submission(actor), webhook=form.webhook)
        return StoredResponse(job.id, job_accepted(job))

    return await _once(request, state, actor, make)


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
    force: Force = False,
    _: IdempotencyKey = None,
) -> Response:
    """Store a calibration file, which is the body or the file `file` of a form."""
    data = await _sent_file(request)

    async def make() -> StoredResponse:
        calibration = await state.admin.import_file(data, actor, activate=activate, force=force)
        return StoredResponse(calibration.id, await recall(calibration.id))

    async def recall(calibration: str) -> Response:
        document = await state.admin.detail(await state.admin.finished(calibration))
        return JSONResponse(
            document.model_dump(mode="json"), status_code=201, headers=_location(calibration)
        )

    return await state.idempotency.once(request, actor, make, recall, body=data)


@router.post(
    f"{_CALIBRATIONS}/{{calibration_id}}/pairs",
    status_code=202,
    response_model=JobOut,
    responses={
        **_PLANNED,
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
    state.settings.webhooks.raise_if_refused(form.webhook)
    parent = await state.admin.finished(calibration_id)
    config = CalibrationConfig.from_manifest(
        parent.manifest, activate=form.activate, force=form.force
    )
    if form.dry_run:
        return await _planned(request, state, config, form.submission(actor, parent))

    async def make() -> StoredResponse:
        job = await state.creator.create(
            config, form.submission(actor, parent), webhook=form.webhook
        )
        return StoredResponse(job.id, job_accepted(job))

    return await _once(request, state, actor, make)


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
    def _says_something(self) -> DeriveIn:
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
    parent = await state.admin.finished(calibration_id)
    derived = await state.admin.derive(
        parent,
        derivation.guarantee,
        bound=derivation.fidelity.bound if derivation.fidelity else None,
        created_by=actor,
        name=derivation.name,
        activate=derivation.activate,
        force=derivation.force,
    )
    response.headers.update(_location(derived.id))
    return await state.admin.detail(derived)


class MetricOption(BaseModel):
    """A fidelity metric: `metric` is what `config.fidelity` takes."""

    metric: str
    title: str
    summary: str = Field(description="What the metric measures, in a few words.")
    bound: float = Field(description="The largest value that it can take.")
    loss_clipped_at: float = Field(description="B, unless the request names another one.")
    error_unit: ErrorUnit
    needs_label: bool = Field(description="Whether people mark errors.")
    blurs: bool = Field(description="Whether `blur` changes it.")


class EstimatorOption(BaseModel):
    """An estimator of σ: `estimator` is what `config.indecision` takes."""

    estimator: str
    title: str
    least_samples: int = Field(description="The smallest M at which it is defined.")
    smooths: bool = Field(description="Whether kernel, size, blur and clip_quantile change it.")
    takes_fit: bool = Field(description="Whether its weights are fitted for the calibration.")


class OptionsOut(BaseModel):
    """The registries; the first row of each is the default."""

    metrics: list[MetricOption]
    estimators: list[EstimatorOption]
    usual_kinds: int = Field(
        description="Kinds of upload that each truth is measured as, unless X is sent or described."
    )
    default_alpha: float = Field(
        description="The default α of a calibration, unless its request names another one."
    )


@router.get("/options")
async def list_options(_: AdminDep) -> OptionsOut:
    """List the metrics that a calibration can bound, and the estimators of σ."""
    return OptionsOut(
        usual_kinds=len(USUAL.variants()),
        default_alpha=CalibrationConfig().default_alpha,
        metrics=[option for option in map(_metric, METRICS) if option is not None],
        estimators=[
            EstimatorOption(estimator=name, **asdict(row)) for name, row in ESTIMATORS.items()
        ],
    )


class NamesIn(BaseModel):
    """The paths of files in a folder or an archive, with forward slashes."""

    model_config = ConfigDict(extra="forbid")

    names: list[Annotated[str, Field(max_length=_MAX_PATH)]] = Field(max_length=_MAX_NAMES)
    folders: bool = Field(
        False, description="Whether images in DIR/NAME, without x/ and y/, are truths in groups."
    )
    pixels: dict[str, str] = Field(
        default_factory=dict,
        max_length=_MAX_NAMES,
        description="By the path of a truth, the SHA-256 of `HEIGHTxWIDTH:` and its RGB "
        "bytes, row by row.",
    )
    upscaler: str | None = Field(
        None, description="The upscaler that is calibrated, which `pixels` are compared for."
    )
    metric: str | None = Field(None, description="The fidelity metric of this calibration.")


class ArrangedPair(BaseModel):
    """One pair, its files by their paths."""

    name: str
    x: str | None
    y: str
    label: str | None
    enlarged: str | None
    group: str | None


class ArrangedOut(BaseModel):
    """What a calibration would make of files of these names."""

    pairs: list[ArrangedPair]
    groups: list[str]
    items: list[Item] = Field(description="Files that cannot be used, and why.")
    used: list[str] = Field(
        description="Pairs whose photograph σ was fitted on, by its `pixels`: they cannot be used."
    )


@router.post(
    "/pairs/check",
    responses=problem_responses("bad-request", "not-found"),
    max_body_size=_MAX_NAMES_BYTES,
)
async def check_pairs(files: NamesIn, state: StateDep, _: AdminDep) -> ArrangedOut:
    """Check by their names which files make pairs, in which groups, and what is wrong.

    Sizes and contents are checked when the files are sent.
    """
    arranged = await asyncio.to_thread(arrange, map(place_of, files.names), folders=files.folders)
    seen: set[str] = set()
    if files.pixels:
        fidelity = {} if files.metric is None else {"fidelity": {"metric": files.metric}}
        config = calibration_config_of(json.dumps({"upscaler": files.upscaler, **fidelity}))
        seen = await state.creator.seen(config, files.pixels)
    return ArrangedOut(
        used=[pair.name for pair in arranged.pairs if pair.paths["y"] in seen],
        pairs=[
            ArrangedPair(
                name=pair.name,
                x=pair.paths.get("x"),
                y=pair.paths["y"],
                label=pair.paths.get("labels"),
                enlarged=pair.paths.get("enlarged"),
                group=pair.group,
            )
            for pair in arranged.pairs
        ],
        groups=sorted({pair.group for pair in arranged.pairs if pair.group is not None}),
        items=[Item(**item) for item in arranged.items],
    )


def _metric(name: str) -> MetricOption | None:
    """Describe a metric; None: a package that it needs is not installed."""
    settings = FidelitySettings(metric=name)
    if reading.missing(settings.reader):
        return None
    row = settings.spec
    given = {
        **asdict(row),
        "loss_clipped_at": row.loss_clipped_at or row.bound,
        "needs_label": row.needs_label,
    }
    return MetricOption(metric=name, **given)


def calibration_config_of(text: str) -> CalibrationConfig:
    """Return the settings of a calibration from JSON.

    Raises:
        BadRequest: not JSON, or a field that cannot be used; `fields` names each.
    """
    try:
        return CalibrationConfig.model_validate_json(text)
    except ValidationError as error:
        known = field_names(CalibrationConfig)
        items = [
            {"field": _field(item["loc"]), "reason": reason(item, known)}
            for item in error.errors(include_url=False)
        ]
        detail = together((item["field"], item["reason"]) for item in items)
        raise BadRequest(f"config: {detail}", fields=items) from error


def _field(place: tuple[int | str, ...]) -> str:
    """The name of a field as JSON has it, without pydantic's tags of the forms it can have."""
    names = [str(name) for k, name in enumerate(place) if (k, name) not in _TAGS]
    return ".".join(names) or "config"


def _location(calibration: str) -> dict[str, str]:
    return {"Location": f"{router.prefix}{_CALIBRATIONS}/{calibration}"}


def _of_one_upscaler(state: State, config: CalibrationConfig) -> CalibrationConfig:
    """The settings. Raises BadRequest where only an upload would decide which upscaler is meant."""
    meant = [upscaler.name for upscaler in state.service.context.candidates(config.upscaler)]
    if len(meant) > 1:
        reason = f"the class of an upload decides between {' and '.join(meant)}; name one of them"
        items = [{"field": "upscaler", "reason": reason}]
        raise BadRequest(f"config: upscaler: {reason}.", fields=items)
    return config


async def _planned(
    request: Request, state: State, config: CalibrationConfig, submission: Submission
) -> Response:
    plan = await while_connected(request, state.creator.plan(config, submission))
    return JSONResponse(plan.model_dump(mode="json"))


async def _once(
    request: Request, state: State, actor: str, make: Callable[[], Awaitable[StoredResponse]]
) -> Response:

    async def recall(job: str) -> Response:
        return job_accepted(await state.stores.jobs.get(job))

    return await state.idempotency.once(request, actor, make, recall)


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


def _form_files(files: dict[Role, list[UploadFile]]) -> Iterator[NamedFile]:
    for role, uploads in files.items():
        for upload in uploads:
            if not upload.filename:
                raise BadRequest(f"A file of {role} has no name; pairs are matched by name.")
            yield NamedFile(f"{role}/{upload.filename}", partial(_content, upload), role)


def _content(upload: UploadFile) -> bytes:
    upload.file.seek(0)
    data = upload.file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ImageTooLarge(
            f"{str(upload.filename)[:80]!r} has more than {MAX_FILE_BYTES:,} bytes.",
            limit="max_file_bytes",
            maximum=MAX_FILE_BYTES,
        )
    return data
