"""How a job is stored: the document of its state, and its places in the lists of jobs.

jobs                    id -> state and attempts
job-requests            id -> request
job-records:<id>        task -> what it brought
jobs-open:<kind>        id -> client, by creation; until the job ends
jobs-running:<kind>     id, while it runs
jobs-awaiting-labels    id, by its last label
jobs-ended              id -> kind, by its end
jobs-past               id -> what remains of the state, by the job's end
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from pydantic import BaseModel

from trustscale_server.stores.documents import Document, Key, Put
from trustscale_server.stores.job_status import JobAbout, JobKind, JobState, JobStatus, Progress

AWAITING: Final = "jobs-awaiting-labels"
ENDED: Final = "jobs-ended"
PAST: Final = "jobs-past"


class Attempt(NamedTuple):
    """A worker runs a task of a job; the empty text is the whole job.

    alone: nothing else ran in its process.
    """

    owner: str
    task: str
    alone: bool = False


class StoredJob(BaseModel):
    """The document of a job."""

    status: JobStatus
    attempts: frozenset[Attempt] = frozenset()

    @classmethod
    def from_document(cls, document: Document) -> StoredJob:
        """Read it. Raises ValidationError for a damaged one."""
        return cls.model_validate_json(document.value)

    def to_bytes(self) -> bytes:
        """Return what `from_document` reads."""
        return self.model_dump_json(exclude_defaults=True).encode()


def accepts_work(document: Document) -> bool:
    """Return whether a stored job has neither ended nor is to be cancelled."""
    if not document.version:
        return False
    status = StoredJob.from_document(document).status
    return status.is_runnable and not status.cancel_requested


def job_key(job: str) -> Key:
    """Return the key of a job's document."""
    return Key("jobs", job)


def request_key(job: str) -> Key:
    """Return the key of a job's request."""
    return Key("job-requests", job)


def records_of(job: str) -> str:
    """Return the folder of what the tasks of a job brought."""
    return f"job-records:{job}"


def open_jobs(kind: JobKind) -> str:
    """Return the folder that lists the jobs of a kind that have not ended."""
    return f"jobs-open:{kind}"


def running_jobs(kind: JobKind) -> str:
    """Return the folder that lists the running jobs of a kind."""
    return f"jobs-running:{kind}"


def stored(job: StoredJob, now: datetime) -> dict[Key, Put | None]:
    """Return what stores a job, and its places in the lists."""
    status = job.status
    waiting = ended = None
    if status.finished_at is None:
        waiting = Put(status.about.client.encode(), status.created_at.timestamp())
    else:
        ended = Put(status.kind.encode(), status.finished_at.timestamp())
    is_running = status.state is JobState.RUNNING
    is_awaiting = status.state is JobState.AWAITING_LABELS
    changes: dict[Key, Put | None] = {
        job_key(status.id): Put(job.to_bytes()),
        Key(open_jobs(status.kind), status.id): waiting,
        Key(running_jobs(status.kind), status.id): Put() if is_running else None,
        Key(ENDED, status.id): ended,
        Key(AWAITING, status.id): Put(order=now.timestamp()) if is_awaiting else None,
    }
    if ended is not None and status.kind != "calibration":
        # Nobody runs it again, and its request holds more than the rest.
        changes[request_key(status.id)] = None
    return changes


def stored_anew(status: JobStatus, request: Mapping[str, Any]) -> dict[Key, Put | None]:
    """Return what stores a job without attempts, and its request."""
    changes = stored(StoredJob(status=status), status.created_at)
    return changes | {request_key(status.id): Put(json.dumps(request).encode())}


def removed(status: JobStatus) -> dict[Key, Put | None]:
    """Return what removes a job, and its places in the lists."""
    lists = (open_jobs(status.kind), running_jobs(status.kind), ENDED, AWAITING)
    return dict.fromkeys(
        (job_key(status.id), request_key(status.id), *(Key(folder, status.id) for folder in lists))
    )


def past_record(status: JobStatus) -> bytes:
    """Return what remains of a job that ended long ago.

    Of `about`: who may see it, and whether somebody must look at its picture.
    """
    about = JobAbout(**status.about.model_dump(include={"client", "key", "needs_review"}))
    forgotten = {"about": about, "trace": None, "progress": Progress(), "started_at": None}
    return StoredJob(status=status.model_copy(update=forgotten)).to_bytes()
