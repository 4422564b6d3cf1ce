"""What admins are shown of calibrations: as rows, whole, in the making, and when activated."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from trustscale_server.calibrating import pair_pictures
from trustscale_server.calibration.active import Calibrations
from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.changes import ServingChanges
from trustscale_server.calibration.guarantees import GuaranteeSummary
from trustscale_server.calibration.insight import (
    CalibratedClass,
    Group,
    Item,
    ThresholdRow,
    classes_of,
    groups_of,
    thresholds,
)
from trustscale_server.calibration.manifest import Described, PairInfo
from trustscale_server.calibration.priority import covered_classes
from trustscale_server.jobs.document import JobOut
from trustscale_server.platform.abandoned import in_spare_thread
from trustscale_server.platform.errors import (
    BadCalibration,
    NoCalibration,
    NotFound,
    UpscalerUnavailable,
)
from trustscale_server.sampling.spec import pipeline_differences
from trustscale_server.stores.base import (
    Activation,
    Blobs,
    CalibrationHead,
    CallsMade,
    JobState,
    JobStatus,
    Stores,
    Switch,
)
from trustscale_server.upscalers.base import Upscaler


class CalibrationRow(CalibrationHead):
    """A calibration in a list; `previous` is the one that was first before it."""

    active: bool
    previous: str | None


class PendingRow(JobOut):
    """A job that is making a calibration, in a list."""

    name: str | None
    upscaler: str
    metric: str
    needs_label: bool
    left_out: int = Field(0, description="Pairs that cannot be used, besides those of `progress`.")


class PendingCalibration(BaseModel):
    """A calibration in the making, under the id of its job."""

    id: str
    state: JobState
    job: PendingRow


class Answering(BaseModel):
    """An active calibration and the classes of uploads that it answers; `*` is every upload."""

    id: str
    name: str | None
    classes: list[str]


class ActivationOut(Switch):
    """Which calibrations are active now, in the order in which they are asked.

    previous: the one that was first before. lost: classes without a calibration now.
    """

    calibration: str
    calibrations: list[Answering]
    lost: list[str]
    changes: ServingChanges


class Difference(BaseModel):
    """A field in which the live pipeline differs from the calibrated one.

    settings: those of the upscaler that changed its fingerprint, where known.
    """

    field: str
    calibrated: Any
    live: Any
    settings: list[str] | None = None


class Leakage(BaseModel):
    """The bound that remains if so many of X were training images of the upscaler."""

    n_leaked: int
    bound: float


class CalibrationDetail(Described):
    """A calibration without its pairs; n and thresholds are of the group that was asked for.

    differences: from the live upscaler, which forbid serving; null: it cannot be reached or is not
    configured.
    """

    model_config = ConfigDict(frozen=False, json_schema_serialization_defaults_required=True)

    id: str
    state: Literal["active", "ready"]
    n: int = Field(description="The number of scenes.")
    pairs: int = Field(description="The number of pairs, of which several may show one scene.")
    min_alpha: float = Field(description="The α below which nothing can be trusted.")
    bound: float = Field(description="B, the largest value the error can take.")
    differences: list[Difference] | None
    thresholds: list[ThresholdRow]
    made_by: str | None = Field(description="How X was made, in one sentence.")
    sizes: list[tuple[int, int]] = Field(
        description="Width and height of the originals, the most frequent first, at most 20."
    )
    skipped: list[Item]
    guarantee: GuaranteeSummary
    groups: list[Group]
    pictures: bool = Field(description="Whether any pictures of its pairs are kept.")
    classes: list[CalibratedClass]
    changes: ServingChanges = Field(description="What serving from it would change now.")
    leakage: Leakage | None = None


class PairDetail(PairInfo):
    """A measured pair. Sizes are those of Y in pixels."""

    model_config = ConfigDict(extra="ignore")

    spots: int = Field(description="Windows of the output that the promise is about.")


class CurvePoint(BaseModel):
    """A step of the curve: the risk, or its bound, from this threshold up to the next."""

    threshold: float
    risk: float


async def finished_rows(stores: Stores, upscaler: str | None) -> list[CalibrationRow]:
    """Return the finished calibrations of an upscaler, or all; the newest first."""
    active = await stores.calibrations.active()
    ids = {calibration_id for item in active.values() for calibration_id in item.calibrations}
    previous = {item.calibration: item.previous for item in active.values()}
    heads = await stores.calibrations.heads(upscaler)
    return [
        CalibrationRow(**head.model_dump(), active=head.id in ids, previous=previous.get(head.id))
        for head in heads
    ]


async def pending_rows(stores: Stores, upscaler: str | None) -> list[PendingRow]:
    """Return the jobs that are making calibrations of an upscaler, or all; the newest first."""
    jobs = await stores.jobs.pending("calibration")
    jobs = [job for job in jobs if upscaler in {None, job.about.upscaler}]
    calls_made = await stores.usage.calls_of(*(job.id for job in jobs))
    return [_pending_row(job, calls) for job, calls in zip(jobs, calls_made, strict=True)]


async def pending(stores: Stores, job: JobStatus) -> PendingCalibration:
    """Return the document of a calibration that is being made."""
    (calls,) = await stores.usage.calls_of(job.id)
    return PendingCalibration(id=job.id, state=job.state, job=_pending_row(job, calls))


def _pending_row(job: JobStatus, calls: CallsMade | None) -> PendingRow:
    about = job.about.model_dump(include={"name", "upscaler", "metric", "needs_label", "left_out"})
    return PendingRow(**JobOut.from_job(job, calls).model_dump(), **about)


async def answering(calibrations: Calibrations, upscaler: str) -> list[Answering]:
    """Return the active calibrations of an upscaler, in order."""
    try:
        active = await calibrations.order(upscaler)
    except NoCalibration:
        return []
    answers = await asyncio.to_thread(active.answers)
    return [
        Answering(id=calibration.id, name=calibration.manifest.name, classes=classes)
        for calibration, classes in zip(active.calibrations, answers, strict=True)
    ]


async def activation_of(
    calibrations: Calibrations, done: Activation, changes: ServingChanges, before: Sequence[str]
) -> ActivationOut:
    """Return the document of an activation; `before` are the ids that were active."""
    now = await answering(calibrations, done.upscaler)
    covered: set[str] = set()
    for calibration_id in set(before) - set(done.calibrations):
        with suppress(BadCalibration, NotFound):  # an unreadable one answered nothing
            covered.update(covered_classes(await calibrations.get(calibration_id)))
    lost = covered.difference(*(row.classes for row in now))
    return ActivationOut(
        **done.model_dump(exclude={"calibrations"}),
        calibration=done.calibration,
        calibrations=now,
        lost=sorted(lost),
        changes=changes,
    )


async def detail(
    calibrations: Calibrations,
    upscalers: Mapping[str, Upscaler],
    blobs: Blobs,
    calibration: Calibration,
    group: str | None = None,
) -> CalibrationDetail:
    """Return the document of a calibration, or of a group of it."""
    active = await calibrations.active_ids(calibration.manifest.upscaler)
    differing = _differences(upscalers, calibration)
    pictured = await pair_pictures.kept(blobs, calibration.id)
    changes = await calibrations.changes(calibration, force=True)

    def document() -> CalibrationDetail:
        subset = calibration.subset(group)
        made_by = calibration.manifest.degradation
        sizes = Counter((pair.width, pair.height) for pair in subset.infos)
        return CalibrationDetail.model_validate(
            {
                **{name: value for name, value in calibration.document.items() if name != "pairs"},
                "id": calibration.id,
                "state": "active" if calibration.id in active else "ready",
                "n": subset.n,
                "pairs": subset.pairs,
                "min_alpha": subset.min_alpha,
                "bound": subset.bound,
                "made_by": made_by and made_by.describe(calibration.pipeline.scale),
                "sizes": [size for size, _ in sizes.most_common(20)],
                "differences": differing,
                "thresholds": thresholds(subset),
                "guarantee": calibration.guarantee.summary(),
                "review": calibration.manifest.review,
                "groups": groups_of(calibration),
                "pictures": pictured,
                "classes": classes_of(subset),
                "changes": changes,
            }
        )

    return await in_spare_thread(document)


def _differences(
    upscalers: Mapping[str, Upscaler], calibration: Calibration
) -> list[dict[str, Any]] | None:
    upscaler = upscalers.get(calibration.manifest.upscaler)
    if upscaler is None:
        return None
    try:
        settings = calibration.manifest.provenance.settings
        return pipeline_differences(calibration.pipeline, upscaler, settings)
    except UpscalerUnavailable:
        return None
