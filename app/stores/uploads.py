"""What becomes of an upload whose job could not be stored."""

from __future__ import annotations

from contextlib import suppress

from app.errors import NotFound
from app.stores.base import Stores, StoreUnavailable


async def forget_unstored(stores: Stores, job_id: str) -> None:
    """Delete what was spooled for a job, unless the job is stored after all.

    A store may have done what it was told although its answer got lost; the job will then be run,
    and needs its files. Where even that cannot be asked now, the files are left to the sweep.
    """
    with suppress(StoreUnavailable):
        try:
            await stores.jobs.get(job_id)
        except NotFound:
            await stores.spool.delete(job_id)
