"""What becomes of an upload whose job could not be stored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from app.errors import NotFound
from app.stores.base import Stores, StoreUnavailable


@asynccontextmanager
async def spooled_for(stores: Stores, job_id: str) -> AsyncIterator[None]:
    """When the block fails, delete what was spooled for a job, unless the job is stored after all.

    A store may have done what it was told although its answer got lost; the job will then be run,
    and needs its files. Where even that cannot be asked now, the files are left to the sweep.
    """
    try:
        yield
    except BaseException:
        with suppress(StoreUnavailable):
            try:
                await stores.jobs.get(job_id)
            except NotFound:
                await stores.spool.delete(job_id)
        raise
