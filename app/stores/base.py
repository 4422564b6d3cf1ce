"""All stores in one bundle, whatever database holds them.

Every method is safe to call from several processes at once; none blocks the event loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from app.stores.audit import AuditEntry, AuditLog
from app.stores.blobs import Blob, Blobs
from app.stores.calibrations import MOST_ACTIVE, Activation, CalibrationHead, CalibrationStore
from app.stores.claims import CallStore, ClaimStore
from app.stores.documents import StoreUnavailable
from app.stores.jobs import Job, JobKind, JobState, JobStatus, JobStore, Progress
from app.stores.monitor import MOST_POINTS, Label, MonitorStore, Update
from app.stores.results import ResultStore

__all__ = [
    "MOST_ACTIVE", "MOST_POINTS", "Activation", "AuditEntry", "AuditLog", "Blob", "Blobs",
    "CalibrationHead", "CalibrationStore", "CallStore", "ClaimStore", "Job", "JobKind",
    "JobState", "JobStatus", "JobStore", "Label", "MonitorStore", "Progress", "ResultStore",
    "StoreUnavailable", "Stores", "Update",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Stores:
    """The stores behind one URL.

    persists: whether what is written reaches the disk; raises StoreUnavailable.
    close: lets running calls end; again it does nothing.
    """

    calibrations: CalibrationStore
    jobs: JobStore
    results: ResultStore
    blobs: Blobs
    audit: AuditLog
    monitor: MonitorStore
    claims: ClaimStore
    calls: CallStore
    checks: Sequence[Callable[[], Awaitable[None]]]
    close: Callable[[], Awaitable[None]]
    persists: Callable[[], Awaitable[bool]]

    async def check(self) -> None:
        """Return if reads and writes work.

        Raises StoreUnavailable, or ConfigError for data that another release wrote.
        """
        for check in self.checks:
            await check()
