"""A job: what it is, and the form in which every store keeps it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel

from app.errors import NotFound


class JobState(StrEnum):
    """Where a job stands; `awaiting_labels` waits for the admin, not for a worker.

    `expired` is not stored: it is what is told of a job that has succeeded and whose result is
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


Fields = Mapping[str, Any]
"""A status as it is stored: texts and numbers. Nothing is None or, on Redis, an empty text."""


def as_text(moment: datetime) -> str:
    """A time as it is stored: ISO 8601 in UTC with microseconds, which sorts as text."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def stored(status: JobStatus) -> dict[str, str | int | None]:
    """The fields of a status as they are stored."""
    started, finished, away = status.started_at, status.finished_at, status.away_since
    return {
        "id": status.id,
        "kind": status.kind,
        "state": status.state.value,
        "progress": status.progress.model_dump_json(),
        "created_at": as_text(status.created_at),
        "started_at": as_text(started) if started else None,
        "finished_at": as_text(finished) if finished else None,
        "cancel_requested": int(status.cancel_requested),
        "result": status.result,
        "error": json.dumps(status.error) if status.error else None,
        "trace": status.trace,
        "away_since": as_text(away) if away else None,
        "about": json.dumps(status.about),
    }


def status_of(fields: Fields) -> JobStatus:
    """The status of stored fields. Raises ValueError if they are damaged."""
    # No field of a job is meaningful when empty.
    values = {name: fields[name] for name in JobStatus.model_fields if fields.get(name)}
    for name in ("progress", "error", "about"):
        if name in values:
            values[name] = json.loads(values[name])
    return JobStatus.model_validate(values)


def no_job(job: str) -> NotFound:
    """The error of a job that is unknown."""
    return NotFound(f"There is no job {job}.")
