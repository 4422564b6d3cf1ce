"""`trustscale jobs`: a job worker of its own, beside gateways that share its Redis."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Annotated

import structlog
import typer

from app.api.worker import listening, worker_app
from app.assembly import open_parts
from app.errors import ConfigError
from app.jobs.queue import run_until_signalled
from app.settings import Settings, load_settings
from app.telemetry.logs import configure_logs
from app.telemetry.metrics import Metrics
from app.telemetry.tracing import exporting

log = structlog.get_logger(__name__)


def jobs(
    metrics_host: Annotated[
        str, typer.Option(help="Address that /metrics and /healthz listen on.")
    ] = "127.0.0.1",
    metrics_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port of /metrics and /healthz; none: no port."),
    ] = None,
) -> None:
    """Run queued upscalings and calibrations until SIGTERM; start as many as you like."""
    settings = load_settings()
    configure_logs(settings.log_level, settings.log_format)
    if settings.queue.startswith("memory:"):
        raise ConfigError(
            "A job worker of its own needs a queue that it shares with the gateway: set "
            "TRUSTSCALE_QUEUE and TRUSTSCALE_STORE to redis://…"
        )
    with exporting(settings.otlp_endpoint, "trustscale-jobs"):
        asyncio.run(_run(settings, metrics_host, metrics_port))


async def _run(settings: Settings, host: str, port: int | None) -> None:
    metrics = Metrics()
    async with AsyncExitStack() as stack:
        parts = await open_parts(settings, stack, metrics=metrics)
        await stack.enter_async_context(listening(worker_app(parts, metrics), host, port))
        log.info("jobs_started", upscalers=list(parts.upscalers))
        await run_until_signalled(parts.queue, parts.handlers, concurrency=parts.concurrency)
        log.info("jobs_stopped")
