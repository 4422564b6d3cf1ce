"""Calibrations in lists: finished ones, and jobs that are making one."""

from __future__ import annotations

from pydantic import BaseModel, Field

from trustscale_server.jobs.document import JobOut
from trustscale_server.stores.calibrations import CalibrationHead
from trustscale_server.stores.job_status import JobState, JobStatus
from trustscale_server.stores.opened import Stores


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
    return [_pending_row(job) for job in jobs]


def pending(job: JobStatus) -> PendingCalibration:
    """Return the document of a calibration that is being made."""
    return PendingCalibration(id=job.id, state=job.state, job=_pending_row(job))


def _pending_row(job: JobStatus) -> PendingRow:
    about = job.about.model_dump(include={"name", "upscaler", "metric", "needs_label", "left_out"})
    return PendingRow(**JobOut.from_job(job).model_dump(), **about)
