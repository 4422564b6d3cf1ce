"""What the rest of the service may rely on from any store.

Each method carries its promise. `tests/contract` runs one suite over every implementation.
Every method is safe to call from several processes at once; none blocks the event loop.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict

from app.errors import Conflict, Overloaded
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


class Fence(NamedTuple):
    """Proof of being the present attempt of a job, checked together with what it guards."""

    job: str
    attempt: int


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

    async def activate(self, calibration: str, *, fence: Fence | None = None) -> Activation:
        """Make it the active one of its upscaler, atomically; the answer names the replaced one.

        Activating the active one again changes nothing and returns the present activation. With a
        fence it happens only if that attempt is the latest of its job and has not ended.
        Raises NotFound, or Conflict for an attempt that was overtaken.
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


JobKind = Literal["upscale", "calibration"]


class Job(BaseModel):
    """A job as the store knows it. `request` is what the job needs to run again from the start.

    trace: the context of the request that left it (`app/telemetry/tracing.py`), if that was traced.
    """

    id: str
    kind: JobKind
    state: JobState = JobState.QUEUED
    progress: Progress = Progress()
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    attempt: int = 0
    cancel_requested: bool = False
    request: dict[str, Any]
    result: str | None = None
    error: dict[str, Any] | None = None
    trace: str | None = None


class JobStore(Protocol):
    """The truth about jobs; a queue only carries their ids.

    Fencing: `begin` hands out increasing attempt numbers, and every later write names the attempt
    it belongs to. Writes of an attempt that is no longer the latest, or that has ended, are
    refused: they return False and change nothing.

    Units: the parts of a job that are checkpointed one by one (the pairs of a calibration). Their
    starts are counted, so that the one that kills its worker can be named.
    """

    async def create(self, job: Job) -> Job:
        """Store a new job; if the id exists, return the stored one unchanged."""
        ...

    async def get(self, job: str) -> Job:
        """Raises NotFound."""
        ...

    async def unfinished(self) -> list[Job]:
        """Jobs that are queued or running, the oldest first: what a restart must submit again."""
        ...

    async def pending(self, kind: JobKind) -> list[Job]:
        """Jobs of a kind that are queued, running or awaiting labels, the newest first."""
        ...

    async def begin(self, job: str, *, max_attempts: int = 3, alive_s: float = 0.0) -> Job | None:
        """Start an attempt: attempt + 1, state running. None if there is nothing to do.

        There is nothing to do when the job is unknown, final or awaiting labels, or an attempt
        that began or called `beat` less than `alive_s` ago is running, or cancel was
        requested (it is then set to cancelled), or the last `max_attempts` attempts ended without
        a word and without one new checkpoint (it is then set to failed with an error that says so
        and names the units that were started most often).
        """
        ...

    async def beat(self, job: str, attempt: int) -> bool:
        """Say that an attempt is alive."""
        ...

    async def release(self, job: str, attempt: int) -> bool:
        """End an attempt that was interrupted and not at fault: queued again, and not counted."""
        ...

    async def resume(self, job: str) -> Job:
        """Queue a job that awaits labels again; any other job is returned unchanged.

        Raises NotFound.
        """
        ...

    async def start_unit(self, job: str, unit: str) -> int:
        """Count a start of one unit of a running job: how often it has started, with this one.

        0 if there is nothing to do: the job does not run, its cancellation was requested, or the
        unit is recorded already.
        """
        ...

    async def release_unit(self, job: str, unit: str) -> None:
        """Take back one start of a unit that was interrupted and not at fault."""
        ...

    async def unit_starts(self, job: str, unit: str) -> int:
        """How often a unit has started, without starting it."""
        ...

    async def record(self, job: str, attempt: int, key: str, value: bytes) -> bool:
        """Keep a checkpoint (one unit's result). Recording a key again replaces it."""
        ...

    async def recorded(self, job: str) -> set[str]:
        """The keys of all checkpoints of a job, without their values."""
        ...

    def records(self, job: str) -> AsyncIterator[tuple[str, bytes]]:
        """All checkpoints of a job, in the order of their keys, a few at a time in memory."""
        ...

    async def progress(self, job: str, attempt: int, progress: Progress) -> bool: ...

    async def finish(
        self,
        job: str,
        attempt: int,
        state: JobState,
        *,
        result: str | None = None,
        error: dict[str, Any] | None = None,
    ) -> bool:
        """End the attempt (a final state, or awaiting_labels). True for exactly one caller."""
        ...

    async def request_cancel(self, job: str) -> Job:
        """Ask for cancellation: a waiting job becomes cancelled at once, a running one is marked.

        Raises NotFound. A final job is returned unchanged.
        """
        ...

    def watch(self, job: str) -> AsyncGenerator[Job, None]:
        """The job now and after every change, ending with a final state (or awaiting_labels).

        Changes in quick succession may be merged. Raises NotFound.
        """
        ...

    async def expire(self, before: datetime) -> Sequence[str]:
        """Remove final jobs that finished before a time, with their checkpoints; their ids."""
        ...


def given_up(attempts: int, units: Sequence[str]) -> dict[str, Any]:
    """The problem of a job whose worker died every time; `units` is what it died at, if known."""
    named = f" while working on {', '.join(units)}" if units else ""
    items = [{"name": unit, "reason": "its worker died each time"} for unit in units]
    return {**tried_in_vain(f"its worker died {attempts} times{named}."), "items": items}


def tried_in_vain(reason: str) -> dict[str, Any]:
    """The problem of a job that was tried as often as it may be."""
    return {
        "type": "about:blank",
        "title": "The job was given up",
        "status": 500,
        "detail": f"The job was given up: {reason}",
    }


def overtaken(fence: Fence) -> Conflict:
    """The error of an attempt that is no longer the latest, or has ended."""
    return Conflict(f"Attempt {fence.attempt} of job {fence.job} was overtaken.")


class ResultStore(Protocol):
    """Results of upscaling, each a JSON document and named blobs, until they expire."""

    async def put(self, result: str, document: bytes, blobs: Mapping[str, bytes]) -> None:
        """Store a result, whole or not at all; it expires after the store's time to live.

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

    async def check(self) -> None:
        """Return if reads and writes work.

        Raises StoreUnavailable, or ConfigError for data that a newer release wrote.
        """
        ...

    async def close(self) -> None: ...
