"""The gateway: the API and the pages over all services, and what runs beside them."""

from __future__ import annotations

from contextlib import AsyncExitStack, aclosing

import structlog
from fastapi import FastAPI

from trustscale_server import __version__
from trustscale_server.bootstrap.assembly import (
    Build,
    measure_throughput,
    open_parts,
    report_calibrations,
)
from trustscale_server.bootstrap.checks import single_process_lock
from trustscale_server.bootstrap.settings import Settings
from trustscale_server.http.api import application, include
from trustscale_server.http.auth import Keyring, stored_admin_key
from trustscale_server.http.clients import open_limits
from trustscale_server.http.health_checks import HealthChecks
from trustscale_server.http.idempotency import IdempotencyKeys
from trustscale_server.http.routes.shared import preview
from trustscale_server.http.state import TIMINGS, State, Timings, room_for_bodies
from trustscale_server.http.sweep import sweep
from trustscale_server.platform.cores import usable_cores
from trustscale_server.platform.memory import memory_limit
from trustscale_server.platform.tasks import beside
from trustscale_server.platform.telemetry.metrics import Metrics
from trustscale_server.platform.telemetry.traces import exporting
from trustscale_server.web.routes import web_router

log = structlog.get_logger(__name__)


def create_app(
    settings: Settings,
    *,
    build: Build | None = None,
    timings: Timings = TIMINGS,
    is_local: bool = False,
) -> FastAPI:
    """Make the gateway for these settings; its lifespan opens everything.

    is_local: whether only this machine reaches it, with no proxy in between.
    """

    async def start(stack: AsyncExitStack, metrics: Metrics) -> State:
        # Here, because the signal that stops the server also ends the process.
        stack.enter_context(exporting("trustscale-gateway"))
        return await _start(settings, metrics, stack, build, timings)

    app = application(
        start,
        max_upload_bytes=settings.max_upload_bytes,
        is_local=is_local,
        is_open=not settings.client_keys,
        path_prefix=settings.path_prefix,
    )
    if settings.pages:
        include(app, web_router(preview, settings.path_prefix), settings.path_prefix)
    return app


async def _start(
    settings: Settings,
    metrics: Metrics,
    stack: AsyncExitStack,
    build: Build | None,
    timings: Timings,
) -> State:
    """Open everything and start the background tasks."""
    stack.enter_context(single_process_lock(settings))
    services = await open_parts(settings, stack, build, metrics)
    log.info(
        "gateway_started",
        version=__version__,
        upscalers=list(services.upscalers),
        data=str(settings.data_dir),
        cores=usable_cores(),
        memory_bytes=memory_limit(),
    )
    await report_calibrations(services)
    for work in (
        sweep(services.stores, settings, timings),
        services.canaries.run(),
        measure_throughput(services),
    ):
        await stack.enter_async_context(beside(work))
    limits = open_limits(
        settings.store,
        client_requests_per_minute=settings.client_requests_per_minute,
        client_pixels_per_minute=settings.client_pixels_per_minute,
    )
    checks = aclosing(HealthChecks(timings.probe_s))
    worker = None
    if settings.gateway_runs_jobs:
        worker = await stack.enter_async_context(
            services.queue.running(
                services.handlers, concurrency=services.concurrency, drain_s=timings.drain_s
            )
        )
    state = State(
        services=services,
        metrics=metrics,
        timings=timings,
        worker=worker,
        client_keys=Keyring(key.get_secret_value() for key in settings.client_keys),
        admin_keys=Keyring(_admin_keys(settings)),
        limits=await stack.enter_async_context(limits),
        idempotency=IdempotencyKeys(services.stores.claims),
        health_checks=await stack.enter_async_context(checks),
        bodies=room_for_bodies(settings.max_upload_bytes),
    )
    await stack.enter_async_context(beside(_when_stopping(state)))
    return state


async def _when_stopping(state: State) -> None:
    """When the service stops, end uploads soon that still arrive or take long to decode.

    What arrived at that moment is answered: a proxy does not send an upload twice.
    """
    await state.stopping.wait()
    for arriving in (state.bodies, state.context.fetching):
        arriving.end(state.timings.drain_s)
    state.context.decoding.end(2 * state.timings.drain_s)


def _admin_keys(settings: Settings) -> list[str]:
    if settings.admin_keys:
        return [key.get_secret_value() for key in settings.admin_keys]
    key, path = stored_admin_key(settings.data_dir)
    log.info("admin_key", path=str(path))
    return [key]
