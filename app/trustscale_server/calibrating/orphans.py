"""Removes files left by a crash between two writes or removals."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Final

from trustscale_server.calibrating.pair_pictures import PICTURES_KEY
from trustscale_server.calibration.canary_store import CANARIES_KEY
from trustscale_server.platform.errors import NotFound
from trustscale_server.stores import results
from trustscale_server.stores.job_status import JOB_PREFIX
from trustscale_server.stores.opened import Stores
from trustscale_server.stores.uploads import UPLOADS

# An upload without a job may still be arriving; none takes a day.
_ORPHAN_LIFE: Final = timedelta(days=1)


async def remove_orphans(stores: Stores) -> int:
    """Remove files older than a day whose job, result or calibration is unknown.

    Also uploads to the object store that no request has used, and samples of ended jobs, which a
    process that took too long may have stored afterwards.
    """
    removed = 0
    keys = await stores.blobs.untouched(_ORPHAN_LIFE)
    calibrations = {head.id for head in await stores.calibrations.heads()} if keys else set()
    for key in keys:
        if await _is_orphan(stores, key, calibrations):
            await stores.blobs.delete(key)
            removed += 1
    return removed


async def _is_orphan(stores: Stores, key: str, calibrations: Collection[str]) -> bool:
    if key.startswith(JOB_PREFIX):
        return not await _has_job(stores, key)
    for prefix in (CANARIES_KEY, PICTURES_KEY):
        if key.startswith(prefix):
            return key.removeprefix(prefix) not in calibrations
    if key.startswith(results.RESULT_FOLDER):
        return not await stores.results.holds(key)
    return key.startswith(UPLOADS)


async def _has_job(stores: Stores, key: str) -> bool:
    """Whether the job of these files is known; that of samples must still run."""
    job_id, _, samples = key.partition(".")
    try:
        job = await stores.jobs.get(job_id)
    except NotFound:
        return False
    return not (samples and job.state.is_final)
