"""The service inside this process, for one command.

Its application is the gateway's, without keys, limits of clients, kept results and background work.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Final
from uuid import uuid4

import httpx
from starlette.types import Receive, Scope, Send

from trustscale import AsyncTrustscale
from trustscale_server.bootstrap.assembly import Services, open_parts, opened_stores
from trustscale_server.bootstrap.settings import Settings, load_settings
from trustscale_server.calibrating.in_place import LocalCreator, private_stores
from trustscale_server.http.api import ROUTES, application
from trustscale_server.http.auth import Keyring
from trustscale_server.http.clients import ClientLimits
from trustscale_server.http.health_checks import HealthChecks
from trustscale_server.http.idempotency import IdempotencyKeys
from trustscale_server.http.state import TIMINGS, State, room_for_bodies
from trustscale_server.platform.cores import usable_cores
from trustscale_server.platform.telemetry.logs import configure_logs
from trustscale_server.platform.telemetry.metrics import Metrics
from trustscale_server.serving.admit import JOB_TIMEOUT_S
from trustscale_server.stores.opened import Stores
from trustscale_server.upscalers.base import AUTO
from trustscale_server.upscalers.embedded.upscaler import EmbeddedConfig
from trustscale_server.upscalers.registry import UpscalerConfig

_Checked = Callable[[int, int], None]

ALL: Final = "*"
"""All upscalers; no name holds a star."""


@asynccontextmanager
async def services_in_process(
    upscaler: str | None = ALL, *, many: bool = False
) -> AsyncIterator[Services]:
    """Open what the settings name, for a command that needs more than the HTTP API."""
    async with AsyncExitStack() as stack:
        yield await _opened(_for_one_command(load_settings(), upscaler, many=many), stack)


@asynccontextmanager
async def client_in_process(
    settings: Settings | None = None,
    *,
    upscaler: str | None = ALL,
    many: bool = False,
    on_checked: _Checked | None = None,
    routes: Sequence[str] = ROUTES,
) -> AsyncIterator[AsyncTrustscale]:
    """Open a client of an application in this process.

    Args:
        settings: None: those of the environment.
        upscaler: the only one to open, which saves waiting for the others and warnings; None: the
            default one, or those that `auto` chooses from.
        many: for throughput, not latency: embedded upscalers without a setting of threads make one
            sample per core at a time.
        on_checked: for a command that calibrates; called with (images, all) while they are checked.
        routes: those that the command uses, to save imports.
    """
    settings = _for_one_command(settings or load_settings(), upscaler, many=many)
    start = partial(_start, settings, on_checked)
    app = application(start, max_upload_bytes=settings.max_upload_bytes, routes=routes)
    async with app.router.lifespan_context(app) as state:

        async def served(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "state": dict(state or {})}, receive, send)

        transport = httpx.ASGITransport(served)
        async with AsyncTrustscale("http://localhost", retries=0, transport=transport) as service:
            yield service


async def _start(
    settings: Settings, on_checked: _Checked | None, stack: AsyncExitStack, metrics: Metrics
) -> State:
    stores = await opened_stores(settings, stack, metrics)
    if on_checked is not None:
        stores = private_stores(stores, settings.data_dir, stack)
    services = await _opened(settings, stack, metrics=metrics, stores=stores)
    context = replace(services.service.context, results=None)
    services = replace(services, service=replace(services.service, context=context))
    worker = None
    if on_checked is not None:
        # Released when the jobs have stopped.
        held = await stack.enter_async_context(AsyncExitStack())
        worker = await stack.enter_async_context(
            services.queue.running(
                {"calibration": services.handlers["calibration"]},
                concurrency=services.concurrency,
                drain_s=0.0,
                unfinished=False,  # those of other processes are left alone
            )
        )
        creator = LocalCreator(
            upscalers=services.upscalers,
            default=settings.default,
            calibrations=services.calibrations,
            stores=services.stores,
            queue=services.queue,
            data_dir=settings.data_dir,
            stack=held,
            on_checked=on_checked,
            costs=services.creator.costs,
        )
        services = replace(services, creator=creator)
    nobody = Keyring(())
    return State(
        services=services,
        metrics=metrics,
        timings=TIMINGS,
        worker=worker,
        client_keys=nobody,
        admin_keys=nobody,
        operator="command line",  # in records and in the admin log
        limits=ClientLimits(),
        idempotency=IdempotencyKeys(services.stores.claims, ignored=True),
        health_checks=await stack.enter_async_context(aclosing(HealthChecks(TIMINGS.probe_s))),
        bodies=room_for_bodies(settings.max_upload_bytes),
    )


async def _opened(
    settings: Settings,
    stack: AsyncExitStack,
    *,
    metrics: Metrics | None = None,
    stores: Stores | None = None,
) -> Services:
    configure_logs("warning", "console")
    # The monitor does not count manual trials.
    return await open_parts(settings, stack, metrics=metrics, serves=False, stores=stores)


def _for_one_command(settings: Settings, upscaler: str | None, *, many: bool) -> Settings:
    """The settings with the upscalers of one command only, and a queue that others do not share."""
    upscalers = tuple(settings.upscalers)
    if upscaler != ALL:
        names = {upscaler or settings.default}
        if upscaler == AUTO or (upscaler is None and settings.prefers_auto):
            names = set(settings.active_routing.values())
        # For an unknown name the error lists all.
        upscalers = tuple(config for config in upscalers if config.name in names) or upscalers
    if many:
        upscalers = tuple(map(_for_throughput, upscalers))
    changes = {
        "upscalers": upscalers,
        # Others' jobs do not run here; a shared queue need not be reachable.
        "queue": f"memory://{uuid4().hex}",
        "max_waiting": 1_000_000,
        "request_timeout_s": JOB_TIMEOUT_S,
        # One pair is prepared while the upscaler is busy.
        "job_concurrency": 1 + max(config.concurrency for config in upscalers),
    }
    return settings.model_copy(update=changes)


def _for_throughput(config: UpscalerConfig) -> UpscalerConfig:
    chosen = {"threads", "concurrency"} & config.model_fields_set
    if chosen or not isinstance(config, EmbeddedConfig):
        return config
    # More samples at once take memory rather than save time.
    return config.model_copy(update={"concurrency": min(usable_cores(), 8)})
