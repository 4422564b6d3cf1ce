"""Removes what has expired while a gateway runs."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from trustscale_server.bootstrap.settings import Settings
from trustscale_server.calibrating.orphans import remove_orphans
from trustscale_server.http.state import Timings
from trustscale_server.platform.errors import TrustscaleError
from trustscale_server.stores.opened import Stores
from trustscale_server.stores.uploads import forget_files

_DETAILS_TTL_S: Final = 86400.0
"""How long an ended job is kept whole; then a small record of its end remains for `job_ttl_s`."""

log = structlog.get_logger(__name__)


async def sweep(stores: Stores, settings: Settings, timings: Timings) -> None:
    """Remove expired results and jobs periodically."""
    clock = asyncio.get_running_loop().time
    orphans_at = clock()
    while True:
        try:
            await stores.results.sweep()
            archived = await stores.job_retention.archive(older_s=_DETAILS_TTL_S)
            expired = await stores.job_retention.expire(older_s=settings.job_ttl_s)
            for job in [*archived, *expired]:
                await forget_files(stores.blobs, job)
            if clock() >= orphans_at:
                orphans_at = clock() + timings.orphans_s
                await remove_orphans(stores)
        except TrustscaleError as error:
            log.warning("sweep_failed", detail=error.detail)
        except Exception:
            # The sweep goes on: otherwise disk and database would fill up unseen.
            log.exception("sweep_failed")
        await asyncio.sleep(timings.sweep_s)
