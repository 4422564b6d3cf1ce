"""Removes files left by a crash between two writes or removals."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from trustscale_server.calibrating.pair_pictures import PICTURES_KEY
from trustscale_server.calibration.canary_store import CANARIES_KEY
from trustscale_server.platform.errors import NotFound
from trustscale_server.stores import results
from trustscale_server.stores.base import Stores
from trustscale_server.stores.job_status import JOB_PREFIX
from trustscale_server.stores.uploads import UPLOADS

_OF_CALIBRATIONS: Final = (CANARIES_KEY, PICTURES_KEY)

# An upload without a job may still be arriving; none takes a day.
_ORPHAN_LIFE: Final = timedelta(days=1)


async def remove_orphans(stores: Stores) -> int:
    """Remove files older than a day whose job, result or calibration is unknown.

    Also uploads to the object store that no request has used, and samples of ended jobs, which a
    process that took too long may have stored afterwards.
    """
    removed = 0
    calibrations: set[str] | None = None
    for key in await stores.blobs.untouched(_ORPHAN_LIFE):
        if key.startswith(JOB_PREFIX):
            known = await _is_needed(stores, key)
        elif key.startswith(_OF_CALIBRATIONS):
            if calibrations is None:
                calibrations = {head.id for head in await stores.calibrations.heads()}
            known = any(key.removeprefix(prefix) in calibrations for prefix in _OF_CALIBRATIONS)
        elif key.startswith(results.RESULT_FOLDER):
            known = await stores.results.holds(key)
        elif key.startswith(UPLOADS):
            known = False
        else:
            continue
        if not known:
            await stores.blobs.delete(key)
            removed += 1
    return removed


async def _is_needed(stores: Stores, key: str) -> bool:
    job_id, _, samples = key.partition(".")
    try:
        job = await stores.jobs.get(job_id)
    except NotFound:
        return False
    return not (samples and job.state.is_final)
