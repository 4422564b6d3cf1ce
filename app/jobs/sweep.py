"""Uploads that nobody will ask for again, left by a crash between two removals or before a job."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from app.errors import NotFound
from app.stores.base import Stores

# Other keys of the spool are those of calibrations and of runs from the command line.
_JOB_PREFIX: Final = "job-"

# An upload that is still arriving has no job yet; none takes a day.
_ORPHAN_LIFE: Final = timedelta(days=1)


async def remove_orphans(stores: Stores, before: datetime) -> int:
    """Remove spooled files that are older than `before` and a day, and whose job is unknown."""
    removed = 0
    for job in await stores.spool.untouched(min(before, datetime.now(UTC) - _ORPHAN_LIFE)):
        if not job.startswith(_JOB_PREFIX):
            continue
        try:
            await stores.jobs.get(job)
        except NotFound:
            await stores.spool.delete(job)
            removed += 1
    return removed
