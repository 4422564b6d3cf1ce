"""What a job is: its kind, its state, and what is known of it before and after it runs."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

JOB_PREFIX: Final = "job-"
"""How the ids of jobs begin; those of the command line's own runs begin otherwise."""


class JobState(StrEnum):
    """The state of a job; `awaiting_labels` waits for a person, not for a worker.

    `expired` is not stored: it is shown for a succeeded job without its result.
    """

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    AWAITING_LABELS = "awaiting_labels"
    EXPIRED = "expired"

    @property
    def is_final(self) -> bool:
        return self in _FINAL


_FINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED})


class Progress(BaseModel):
    """`done` of `total` units."""

    done: int = 0
    total: int = 0
    unit: str = "samples"


JobKind = Literal["upscale", "calibration", "webhook"]


class VisibleJob(BaseModel):
    """What is stored of a job and shown to its client as it is."""

    id: str
    kind: JobKind
    state: JobState = JobState.QUEUED
    progress: Progress = Progress()
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    result: str | None = None
    dependency_down_since: datetime | None = Field(
        None,
        description="Since when a dependency has been unavailable, which is retried; null "
        "if all are available.",
    )


class JobAbout(BaseModel):
    """What lists show of a job's request, who sent it, and who hears of its end.

    client: whose turn it takes; the empty text is the service itself. key: the API key's name.
    webhook: the URL that is told. estimate_s: of the samples, in seconds.

    Upscaling: width and height are those of the picture that is made. needs_review: whether
    somebody must look at it; None: not known.

    Calibration: parent is the calibration that is extended. left_out: pairs that cannot be used.
    calls, price: of the upscaler, at most.
    """

    model_config = ConfigDict(frozen=True)

    client: str = ""
    key: str | None = None
    webhook: str | None = None
    upscaler: str | None = None
    estimate_s: float | None = None

    width: int | None = None
    height: int | None = None
    needs_review: bool | None = None

    name: str | None = None
    metric: str | None = None
    needs_label: bool = False
    parent: str | None = None
    left_out: int = 0
    calls: int | None = None
    price: float | None = None
    warnings: list[str] = []


class JobStatus(VisibleJob):
    """A job without its request, small enough to be read again and again.

    dependency_down_since: when a dependency was first found unavailable since there was progress.
    trace: of the submitting request (`platform/telemetry/otel.py`).
    """

    cancel_requested: bool = False
    error: dict[str, Any] | None = None
    trace: str | None = None
    about: JobAbout = JobAbout()

    @property
    def is_runnable(self) -> bool:
        """Whether workers have something to do."""
        return self.state in {JobState.QUEUED, JobState.RUNNING}


class Job(JobStatus):
    """A job with its request: all that it needs to run, again and again, from the start."""

    request: dict[str, Any]
