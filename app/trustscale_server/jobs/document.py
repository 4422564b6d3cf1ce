"""A job as its client sees it."""

from __future__ import annotations

from typing import Final, get_args

from pydantic import ConfigDict, Field

from trustscale_server.platform.problems import Problem
from trustscale_server.stores.job_status import JobKind, JobState, JobStatus, VisibleJob
from trustscale_server.stores.opened import Stores

DRAFT: Final = "draft.webp"
"""The first sample, small, shown while the job runs; what is not made yet is transparent."""


class JobOut(VisibleJob):
    """A job as clients see it.

    state: expired once the result is gone. result: a link, once it has succeeded. warnings: about
    the pairs of a calibration.
    """

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    estimate_s: float | None = Field(
        None,
        description="How long the samples will take once it runs, in seconds; null if that "
        "is not known.",
    )
    calls: int | None = Field(None, description="Calibration only: the most calls of the upscaler.")
    price: float | None = Field(
        None,
        description="Calibration only: the price of these calls, if that of one is configured.",
    )
    width: int | None = Field(
        None, description="Upscaling only: the width of the picture that is made."
    )
    height: int | None = None
    draft: str | None = Field(
        None,
        description="Upscaling only, while it runs: the first sample, reduced; what is not made "
        "yet is transparent. Nothing of it is measured yet, so nothing is trusted. In the first "
        "seconds it may be missing.",
    )
    needs_review: bool | None = Field(
        None,
        description="Upscaling only, once it has succeeded: whether somebody must look at the "
        "picture before it goes out (`review` of the result); null: not known.",
    )
    error: Problem | None
    warnings: list[str] = Field(default_factory=list)

    @classmethod
    def from_job(cls, job: JobStatus, path_prefix: str = "") -> JobOut:
        """Return the public part of a stored job."""
        shown = set(cls.model_fields)
        return cls(
            **job.model_dump(include=shown),
            **job.about.model_dump(include=shown),
            draft=f"{path_prefix}/v1/jobs/{job.id}/{DRAFT}" if is_drafted(job) else None,
        )


def is_drafted(job: JobStatus) -> bool:
    """Return whether a job may show a first sample, as far as it is made; it has no result yet."""
    is_running = job.kind == "upscale" and job.state is JobState.RUNNING
    return is_running and job.progress.done > 0


async def shown_job(stores: Stores, job: JobStatus, path_prefix: str = "") -> JobOut:
    """Return a job as clients see it; if its result was removed, it is `expired` without a link."""
    is_made = job.kind == "upscale" and job.state is JobState.SUCCEEDED and job.result
    if is_made and not await stores.results.has(str(job.result).rpartition("/")[2]):
        job = job.model_copy(update={"state": JobState.EXPIRED, "result": None})
    return JobOut.from_job(job, path_prefix)


async def unfinished_jobs(stores: Stores, path_prefix: str = "") -> list[JobOut]:
    """Return the jobs that have not ended, the newest first."""
    pending = [job for kind in get_args(JobKind) for job in await stores.jobs.pending(kind)]
    pending.sort(key=lambda job: job.created_at, reverse=True)
    return [JobOut.from_job(job, path_prefix) for job in pending]
