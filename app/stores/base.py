"""What the rest of the service may rely on from any store.

Each method carries its promise. `tests/contract` runs one suite over every implementation.
Every method is safe to call from several processes at once; none blocks the event loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from pydantic import BaseModel, ConfigDict

from app.errors import Conflict, NotFound
from app.stores.blobs import Blob, Blobs, StoreUnavailable
from app.stores.job import Job, JobKind, JobState, JobStatus, Progress
from app.stores.jobs import JobStore
from app.stores.results import ResultStore

__all__ = [
    "Blob", "Blobs", "Job", "JobKind", "JobState", "JobStatus", "JobStore", "Progress",
    "ResultStore", "StoreUnavailable",
]  # fmt: skip


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


MOST_ACTIVE: Final = 8
"""Calibrations of an upscaler that are active at the same time."""


class Activation(BaseModel):
    """The active calibrations of an upscaler, in the order in which they are asked.

    previous: the first one before the last change.
    """

    model_config = ConfigDict(frozen=True)

    upscaler: str
    calibrations: tuple[str, ...]
    previous: str | None
    at: datetime

    @property
    def calibration(self) -> str:
        """The first one, which was activated last."""
        return self.calibrations[0]


def activated(
    present: Activation | None, upscaler: str, calibration: str, without: Collection[str] | None
) -> Activation:
    """The activation that puts a calibration before the active ones `without` some; None: alone.

    It is the present one if that changes nothing. Raises Conflict: too many would be active.
    """
    before = present.calibrations if present else ()
    gone = before if without is None else without
    after = (calibration, *(one for one in before if one != calibration and one not in gone))
    if present is not None and after == before:
        return present
    if len(after) > MOST_ACTIVE:
        raise Conflict(
            f"{MOST_ACTIVE} calibrations of {upscaler!r} are active already: make this one the "
            'only one ("only": true, --only).'
        )
    first = present.calibration if present else None
    if present is not None and first == calibration:
        first = present.previous
    return Activation(upscaler=upscaler, calibrations=after, previous=first, at=datetime.now(UTC))


class CalibrationStore(Protocol):
    """Calibrations are immutable; which ones are active is the only thing that changes."""

    async def put(self, head: CalibrationHead, blob: bytes) -> None:
        """Store a calibration, whole or not at all. Putting the same id again changes nothing."""

    async def get(self, calibration: str) -> bytes:
        """The blob. Raises NotFound."""

    async def heads(self, upscaler: str | None = None) -> list[CalibrationHead]:
        """All calibrations, the newest first."""

    async def activate(
        self, calibration: str, *, job: str | None = None, without: Collection[str] | None = ()
    ) -> Activation:
        """Put it before the active ones of its upscaler `without` some, or alone, atomically.

        What changes nothing returns the present activation (`activated`). With a job it happens
        only while that job goes on: a worker that slept through its end must not undo what an admin
        has chosen since.
        Raises NotFound, or Conflict if the job has ended or is to be cancelled, or too many would
        be active.
        """

    async def active(self) -> Mapping[str, Activation]:
        """The active calibrations by upscaler: one consistent snapshot, cheap per request."""

    async def delete(self, calibration: str) -> None:
        """Raises NotFound, or Conflict while it is active."""


def no_calibration(calibration: str) -> NotFound:
    """The error of a calibration that is unknown."""
    return NotFound(f"There is no calibration {calibration}.")


def still_active(calibration: str) -> Conflict:
    """The error of deleting an active calibration."""
    return Conflict(f"Calibration {calibration} is active; make another one the only one first.")


def over(job: str) -> Conflict:
    """The error of an activation that comes after the end of its job."""
    return Conflict(f"The job {job} has ended, so it activates nothing.")


Spool: TypeAlias = Blobs
"""Uploaded files that wait for a job, by the id of the job."""


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

    async def entries(self, *, limit: int, before: int | None = None) -> list[AuditEntry]:
        """The newest entries first, at most `limit`, of those with a smaller id than `before`."""


MOST_POINTS: Final = 1000
"""Points of history that are kept of one calibration; older ones go."""


class Snapshot(NamedTuple):
    """A state and the version that the next `save` must name."""

    version: int
    state: bytes


class Label(NamedTuple):
    """The truth about one result has been told: what it was, and what was made of it.

    digest: of the truth, so that the same one is recognised.
    record: what the service answered.
    """

    result: str
    digest: str
    record: bytes


class Update(NamedTuple):
    """What is saved together: a state, points for the history, and perhaps a label."""

    state: bytes
    points: Sequence[bytes] = ()
    label: Label | None = None


class MonitorStore(Protocol):
    """What is known of the requests under each calibration, shared by all processes.

    The state is opaque here. It is changed by optimistic concurrency: read it, and save what
    follows from it under the version that was read; whoever comes second reads again.
    """

    async def load(self, calibration: str) -> Snapshot | None:
        """The newest state; None if nothing was saved."""

    async def save(self, calibration: str, update: Update, *, expected: int) -> bool:
        """Replace the state, append to the history and record the label: all of it or nothing.

        False, and nothing happens, if the version is no longer `expected` (0: nothing was saved
        yet) or the result has a label already.
        """

    async def points(self, calibration: str) -> list[bytes]:
        """The history, the oldest first: the last `MOST_POINTS` points."""

    async def label(self, calibration: str, result: str) -> Label | None:
        """The label of a result; None if it has none."""

    async def labels(self, calibration: str, *, limit: int) -> list[Label]:
        """The last labels, the oldest of them first."""

    async def forget(self, calibration: str) -> None:
        """Remove everything about a calibration; nothing happens if there is nothing."""


class ClaimStore(Protocol):
    """Values by name that disappear after their time. Every call may be repeated."""

    async def claim(self, name: str, value: bytes, *, seconds: float) -> bytes:
        """Keep a value for so long, unless there is one: the one that is kept."""

    async def get(self, name: str) -> bytes | None:
        """The value that is kept; nothing is written."""

    async def replace(self, name: str, old: bytes, new: bytes | None, *, seconds: float) -> None:
        """Keep another value for so long, or none, if the present one still is `old`."""


class CallStore(Protocol):
    """When upscalers whose calls are limited were called, by any process."""

    async def take(self, upscaler: str, most: int, *, seconds: float) -> float:
        """Count a call that starts now, unless `most` have started within so many seconds.

        Returns:
            0 if it was counted, else the seconds until one may start.
        """

    async def count(self, upscaler: str, *, seconds: float) -> int:
        """How many have started within so many seconds."""


async def _always() -> bool:
    return True


@dataclass(frozen=True)
class Stores:
    """One bundle of stores behind one URL; parts are checked and closed in the order given."""

    calibrations: CalibrationStore
    jobs: JobStore
    results: ResultStore
    spool: Spool
    audit: AuditLog
    monitor: MonitorStore
    claims: ClaimStore
    calls: CallStore
    checks: Sequence[Callable[[], Awaitable[None]]]
    closes: Sequence[Callable[[], Awaitable[None]]]
    persists: Callable[[], Awaitable[bool]] = _always
    """Whether what is written reaches the disk; raises StoreUnavailable."""

    async def check(self) -> None:
        """Return if reads and writes work.

        Raises StoreUnavailable, or ConfigError for data that a newer release wrote.
        """
        for check in self.checks:
            await check()

    async def close(self) -> None:
        """Close everything. Closing again does nothing."""
        for close in self.closes:
            await close()
