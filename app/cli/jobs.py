"""`trustscale jobs`: a job worker of its own, beside gateways that share its Redis."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import structlog

from app.assembly import open_parts
from app.errors import ConfigError
from app.jobs.queue import run_until_signalled
from app.logs import configure_logs
from app.settings import Settings, load_settings

log = structlog.get_logger(__name__)


def jobs() -> None:
    """Run queued upscalings and calibrations until SIGTERM; start as many as you like."""
    settings = load_settings()
    configure_logs(settings.log_level, settings.log_format)
    if settings.queue.startswith("memory:"):
        raise ConfigError(
            "A job worker of its own needs a queue that it shares with the gateway: set "
            "TRUSTSCALE_QUEUE and TRUSTSCALE_STORE to redis://…"
        )
    asyncio.run(_run(settings))


async def _run(settings: Settings) -> None:
    async with AsyncExitStack() as stack:
        parts = await open_parts(settings, stack)
        log.info("jobs_started", upscalers=list(parts.upscalers))
        await run_until_signalled(parts.queue, parts.handlers, concurrency=parts.concurrency)
        log.info("jobs_stopped")
