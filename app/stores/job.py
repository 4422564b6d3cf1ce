"""What a job is."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel


class JobState(StrEnum):
    """Where a job stands; `awaiting_labels` waits for the admin, not for a worker.

    `expired` is not stored: it is what is shown of a job that has succeeded and whose result is
    gone (`app/api/jobs.py`).
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


class JobStatus(BaseModel):
    """What is asked of a job again and again: small, and without its request.

    about: what lists show of the request. away_since: when something that it needs was first found
    to be away, since there was progress. trace: the context of the request that left it
    (`app/telemetry/otel.py`), if that was traced.
    """

    id: str
    kind: JobKind
    state: JobState = JobState.QUEUED
    progress: Progress = Progress()
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    cancel_requested: bool = False
    result: str | None = None
    error: dict[str, Any] | None = None
    trace: str | None = None
    away_since: datetime | None = None
    about: dict[str, str | None] = {}

    @property
    def goes_on(self) -> bool:
        """Whether there is something to do for workers."""
        return self.state in {JobState.QUEUED, JobState.RUNNING}


class Job(JobStatus):
    """A job with its request: what it needs to run, again and again, from the start."""

    request: dict[str, Any]
