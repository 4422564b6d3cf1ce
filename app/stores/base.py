"""What the rest of the service may rely on from any store.

Each method carries its promise. `tests/contract` runs one suite over every implementation.
Every method is safe to call from several processes at once; none blocks the event loop.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from pydantic import BaseModel, ConfigDict

from app.errors import Conflict, Overloaded
from app.stores.claims import ClaimStore
from app.stores.monitor import MonitorStore


class StoreUnavailable(Overloaded):
    """The store cannot be read or written now: no connection, a full disk, a damaged file.

    Nothing of the refused call was stored. Trying again later makes sense.
    """


class CalibrationHead(BaseModel):
    """What lists show of a calibration; the whole fact is the blob (`app/calibration/file.py`)."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str | None
    upscaler: str
    created_at: datetime
    n: int
    min_alpha: float
    default_alpha: float
    metric: str
    guarantee: str = "expectation"
    delta: float | None = None


class Activation(NamedTuple):
    """The active calibration of an upscaler and the one it replaced."""

    upscaler: str
    calibration: str
    previous: str | None
    at: datetime


class CalibrationStore(Protocol):
    """Calibrations are immutable; which one is active is the only thing that changes."""

    async def put(self, head: CalibrationHead, blob: bytes) -> None:
        """Store a calibration, whole or not at all. Putting the same id again changes nothing."""
        ...

    async def get(self, calibration: str) -> bytes:
        """The blob. Raises NotFound."""
        ...

    async def heads(self, upscaler: str | None = None) -> list[CalibrationHead]:
        """All calibrations, the newest first."""
        ...

    async def activate(self, calibration: str, *, job: str | None = None) -> Activation:
        """Make it the active one of its upscaler, atomically; the answer names the replaced one.

        Activating the active one again changes nothing and returns the present activation. With a
        job it happens only while that job goes on: a worker that slept through its end must not
        undo what an admin has chosen since.
        Raises NotFound, or Conflict if the job has ended or is to be cancelled.
        """
        ...

    async def active(self) -> Mapping[str, Activation]:
        """The active calibrations by upscaler: one consistent snapshot, cheap per request."""
        ...

    async def delete(self, calibration: str) -> None:
        """Raises NotFound, or Conflict while it is active."""
        ...


class JobState(StrEnum):
    """Where a job stands; `awaiting_labels` waits for the admin, not for a worker."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    AWAITING_LABELS = "awaiting_labels"

    @property
    def is_final(self) -> bool:
        return self in {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}


class Progress(BaseModel):
    """`done` of `total` units."""

    done: int = 0
    total: int = 0
    unit: str = "samples"


JobKind = Literal["upscale", "calibration", "webhook"]


class JobStatus(BaseModel):
    """What is asked of a job again and again: small, and without its request.

    about: what lists show of the request. trace: the context of the request that left it
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
    about: dict[str, str | None] = {}

    @property
    def goes_on(self) -> bool:
        """Whether there is something to do for workers."""
        return self.state in {JobState.QUEUED, JobState.RUNNING}


class Job(JobStatus):
    """A job with its request: what it needs to run, again and again, from the start."""

    request: dict[str, Any]


class JobStore(Protocol):
    """The truth about jobs; a queue only carries their ids.

    Pieces: a job is done in one piece (its unit is then the empty text), or in units that are
    recorded one by one (the pairs of a calibration). A piece may be done twice, by workers that do
    not know of each other, and is the same whoever does it: the first record and the first end
    count, and every write may be repeated.

    Acts: whoever begins a piece leaves its name, and takes it back when the piece ends, well or
    not. A name that stays is of one who died in the act, or who still is in it.
    """

    async def create(self, job: Job) -> JobStatus:
        """Store a new job; if the id exists, return the stored one unchanged."""
        ...

    async def get(self, job: str) -> JobStatus:
        """Raises NotFound."""
        ...

    async def load(self, job: str) -> Job:
        """The job with its request. Raises NotFound."""
        ...

    async def unfinished(self) -> list[JobStatus]:
        """Jobs that are queued or running, the oldest first: what a restart must submit again."""
        ...

    async def pending(self, kind: JobKind) -> list[JobStatus]:
        """Jobs of a kind that are queued, running or awaiting labels, the newest first."""
        ...

    async def count_pending(self, kind: JobKind) -> int:
        """How many there are of these."""
        ...

    async def start(self, job: str, unit: str | None, owner: str) -> JobStatus | None:
        """Begin a piece: the job runs, and the owner is in the act. None if there is nothing to do.

        There is nothing to do when the job is unknown, final or awaiting labels, its cancellation
        was requested (it is then cancelled), or the unit is recorded. Without a unit the job runs,
        and nobody is in an act.
        """
        ...

    async def acts(self, job: str, unit: str) -> set[str]:
        """The owners that have begun a piece and not said that it ended."""
        ...

    async def end(self, job: str, unit: str, owner: str) -> None:
        """An act ended without a result; a running job without any act is queued again."""
        ...

    async def record(self, job: str, unit: str, value: bytes) -> bool:
        """Keep the result of a unit, unless there is one; all acts at it are over and forgiven.

        False if the job does not go on.
        """
        ...

    async def recorded(self, job: str) -> set[str]:
        """The units of a job that are recorded."""
        ...

    def records(self, job: str) -> AsyncIterator[tuple[str, bytes]]:
        """All recorded units of a job, in their order, a few at a time in memory."""
        ...

    async def progress(self, job: str, progress: Progress) -> None:
        """Show how far a job is, if it goes on."""
        ...

    async def finish(
        self,
        job: str,
        state: JobState,
        *,
        result: str | None = None,
        error: dict[str, Any] | None = None,
    ) -> bool:
        """End a job that goes on (a final state, or awaiting_labels), and all acts at it.

        True if this is the end that it has, also when it was told before.
        """
        ...

    async def resume(self, job: str) -> JobStatus:
        """Queue a job that awaits labels again; any other job is returned unchanged.

        Raises NotFound.
        """
        ...

    async def request_cancel(self, job: str) -> JobStatus:
        """Ask for cancellation: a waiting job becomes cancelled at once, a running one is marked.

        Raises NotFound. A final job is returned unchanged.
        """
        ...

    def watch(self, job: str) -> AsyncGenerator[JobStatus, None]:
        """The job now and after every change, ending with a final state (or awaiting_labels).

        Changes in quick succession may be merged. Raises NotFound.
        """
        ...

    async def expire(self, before: datetime) -> Sequence[str]:
        """Remove final jobs that finished before a time, with all that is theirs; their ids."""
        ...


def check_end(state: JobState) -> None:
    """Raise ValueError for a state that ends nothing."""
    if not state.is_final and state is not JobState.AWAITING_LABELS:
        raise ValueError(f"{state} does not end a job")


def over(job: str) -> Conflict:
    """The error of an activation that comes after the end of its job."""
    return Conflict(f"The job {job} has ended, so it activates nothing.")


Blob: TypeAlias = bytes | memoryview
"""A file to store; a view of bytes spares a copy."""


class ResultStore(Protocol):
    """Results of upscaling, each a JSON document and named blobs, until they expire."""

    async def put(
        self,
        result: str,
        document: bytes,
        blobs: Mapping[str, Blob],
        *,
        ttl_s: float | None = None,
    ) -> None:
        """Store a result, whole or not at all; it expires after a time, or the store's usual one.

        Storing an id again keeps the first: a job that runs twice cannot change an answer. When
        the size limit is passed the oldest results go, never the newest one.
        """
        ...

    async def document(self, result: str) -> bytes:
        """Raises NotFound, also after expiry."""
        ...

    async def blob(self, result: str, name: str) -> bytes:
        """Raises NotFound, also after expiry."""
        ...

    async def delete(self, result: str) -> None:
        """Remove a result; nothing happens if there is none."""
        ...

    async def sweep(self) -> int:
        """Remove what has expired, and the oldest results above the size limit; how many."""
        ...


class Spool(Protocol):
    """Uploaded files that wait for a job, readable by every process that may run it."""

    async def put(self, job: str, name: str, data: bytes) -> None:
        """Store a file, whole or not at all. Storing a name again replaces the file."""
        ...

    async def create(self, job: str, name: str, data: bytes) -> bool:
        """Store a file, whole, unless there is one of this name: True for exactly one caller."""
        ...

    async def get(self, job: str, name: str) -> bytes:
        """Raises NotFound."""
        ...

    async def names(self, job: str) -> list[str]:
        """The names of all files of a job, in order; empty if there are none."""
        ...

    async def delete(self, job: str) -> None:
        """Remove all files of a job; nothing happens if there are none."""
        ...

    async def untouched(self, before: datetime) -> list[str]:
        """The jobs none of whose files was stored since, in order."""
        ...


class AuditEntry(BaseModel):
    """One admin action. `id` grows with time."""

    id: int
    at: datetime
    action: str
    actor: str
    facts: dict[str, Any]


class AuditLog(Protocol):
    """Admin actions, append-only: nothing here changes or removes an entry."""

    async def append(self, action: str, actor: str, facts: dict[str, Any]) -> None:
        """Keep one action with the time of now; it is on the disk before this returns."""
        ...

    async def entries(self, *, limit: int, before: int | None = None) -> list[AuditEntry]:
        """The newest entries first, at most `limit`, of those with a smaller id than `before`."""
        ...


class Stores(Protocol):
    """One bundle of stores behind one URL."""

    @property
    def calibrations(self) -> CalibrationStore: ...

    @property
    def jobs(self) -> JobStore: ...

    @property
    def results(self) -> ResultStore: ...

    @property
    def spool(self) -> Spool: ...

    @property
    def audit(self) -> AuditLog: ...

    @property
    def monitor(self) -> MonitorStore: ...

    @property
    def claims(self) -> ClaimStore: ...

    async def check(self) -> None:
        """Return if reads and writes work.

        Raises StoreUnavailable, or ConfigError for data that a newer release wrote.
        """
        ...

    async def close(self) -> None: ...
