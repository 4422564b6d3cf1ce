"""`trustscale jobs`: a job worker beside gateways that share its Redis; jobs listed, cancelled."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Annotated, Any, Final

import structlog
import typer

from trustscale import AsyncTrustscale
from trustscale_server import __version__
from trustscale_server.bootstrap.assembly import open_parts
from trustscale_server.bootstrap.settings import Settings, load_settings
from trustscale_server.cli import options
from trustscale_server.cli.job_text import progress_of
from trustscale_server.cli.output import lines, output
from trustscale_server.cli.service import ask
from trustscale_server.http.worker_port import listening, worker_app
from trustscale_server.jobs.queue import run_until_signalled
from trustscale_server.platform.errors import ConfigError
from trustscale_server.platform.telemetry.logs import configure_logs
from trustscale_server.platform.telemetry.traces import exporting

_DRAIN_S: Final = 60.0
"""How long a stopping worker waits for calls, which are paid for, to end."""

log = structlog.get_logger(__name__)

app = typer.Typer(invoke_without_command=True)


@app.callback()
def jobs(
    context: typer.Context,
    metrics_host: Annotated[
        str, typer.Option(help="Address that /metrics and /healthz listen on.")
    ] = "127.0.0.1",
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Port of /metrics and /healthz; by default none is opened."
        ),
    ] = None,
) -> None:
    """Run queued upscalings and calibrations until SIGTERM; start as many as you like."""
    if context.invoked_subcommand is not None:
        return
    settings = load_settings()
    configure_logs(settings.log_level)
    if settings.queue.startswith("memory:"):
        raise ConfigError(
            "A separate job worker needs a queue that it shares with the gateway: set "
            "TRUSTSCALE_QUEUE and TRUSTSCALE_STORE to redis://…"
        )
    with exporting("trustscale-jobs"):
        asyncio.run(_run(settings, metrics_host, metrics_port))


@app.command("list")
def list_(server: options.Server = None, as_json: options.Json = False) -> None:
    """List the jobs that have not ended, the newest first."""
    rows = ask(server, lambda service: service.jobs())
    output(rows, lines(_dated, "No job is queued or running."), as_json=as_json)


@app.command()
def cancel(
    job: Annotated[str, typer.Argument(help="Id of a job.")],
    server: options.Server = None,
    as_json: options.Json = False,
) -> None:
    """Cancel a job: at once if it is queued, within seconds if it runs."""

    async def cancelled(service: AsyncTrustscale) -> dict[str, Any]:
        cancelled_job = await service.job(job)
        await cancelled_job.cancel()
        return cancelled_job.document

    output(ask(server, cancelled), _line, as_json=as_json)


def _dated(job: dict[str, Any]) -> str:
    return f"{job['created_at'][:16]}  {_line(job)}"


def _line(job: dict[str, Any]) -> str:
    return f"{job['id']}  {job['kind']}  {job['state']}  {progress_of(job)}"


async def _run(settings: Settings, host: str, port: int | None) -> None:
    async with AsyncExitStack() as stack:
        services = await open_parts(settings, stack)
        await stack.enter_async_context(listening(worker_app(services.gauges), host, port))
        log.info("jobs_started", version=__version__, upscalers=list(services.upscalers))
        await run_until_signalled(
            services.queue,
            services.handlers,
            concurrency=services.concurrency,
            drain_s=_DRAIN_S,
        )
        log.info("jobs_stopped")
