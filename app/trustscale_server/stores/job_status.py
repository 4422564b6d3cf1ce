"""What a job is: its kind, its state, and what is known of it before and after it runs."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal

from pydantic import BaseModel, Field

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


class JobStatus(VisibleJob):
    """A job without its request, small enough to be read again and again.

    about: what lists show of the request, and its client. dependency_down_since: when a dependency
    was first found unavailable since there was progress. trace: of the submitting request
    (`platform/telemetry/otel.py`).
    """

    cancel_requested: bool = False
    error: dict[str, Any] | None = None
    trace: str | None = None
    about: dict[str, str | None] = {}

    @property
    def needs_review(self) -> bool | None:
        """Whether somebody must look at its picture; None is not known."""
        noted = self.about.get("needs_review")
        return None if noted is None else noted == "yes"

    @property
    def is_runnable(self) -> bool:
        """Whether workers have something to do."""
        return self.state in {JobState.QUEUED, JobState.RUNNING}


class Job(JobStatus):
    """A job with its request: all that it needs to run, again and again, from the start."""

    request: dict[str, Any]
