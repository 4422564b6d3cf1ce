"""The gateway: routes, lifespan and background tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib import import_module
from typing import Any, Final, TypedDict

import structlog
from fastapi import APIRouter, FastAPI
from starlette.formparsers import MultiPartParser
from starlette.types import ASGIApp

from trustscale_server import __version__
from trustscale_server.bootstrap.assembly import (
    Build,
    measure_throughput,
    open_parts,
    report_calibrations,
    single_process_lock,
)
from trustscale_server.bootstrap.settings import Settings
from trustscale_server.calibrating.orphans import remove_orphans
from trustscale_server.http import problems
from trustscale_server.http.auth import Keyring, stored_admin_key
from trustscale_server.http.clients import open_limits
from trustscale_server.http.middleware import OwnSite, RequestContext
from trustscale_server.http.openapi import ABOUT, add_page, finished, operation_id
from trustscale_server.http.reading import BoundedFields
from trustscale_server.http.routes.shared import preview
from trustscale_server.http.state import TIMINGS, State, Timings
from trustscale_server.platform.cores import usable_cores
from trustscale_server.platform.errors import ConfigError, TrustscaleError
from trustscale_server.platform.memory import memory_limit
from trustscale_server.platform.tasks import beside
from trustscale_server.platform.telemetry.signals import Metrics, exporting
from trustscale_server.stores.base import Stores, forget_files
from trustscale_server.web.routes import web_router

_MAX_FIELDS = 32

# Bytes of a form's file in memory before it goes to the disk; there may be hundreds of files.
MultiPartParser.spool_max_size = 128 * 1024

log = structlog.get_logger(__name__)


class LifespanState(TypedDict):
    """The state of every request."""

    trustscale: State


_Start = Callable[[AsyncExitStack, Metrics], Awaitable[State]]
"""Opens what an application needs; the stack closes it."""


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
        _include(app, web_router(preview, settings.path_prefix), settings.path_prefix)
    return app


def _include(app: FastAPI, router: APIRouter, prefix: str) -> None:
    """Add a router. Raises ConfigError where a path of its looks as if it had the prefix."""
    paths = [f"{getattr(route, 'path', '')}/" for route in (*app.routes, *router.routes)]
    if prefix and any(path.startswith(f"{prefix}/") for path in paths):
        raise ConfigError(f"path_prefix {prefix} is a path of the service: choose another one.")
    app.include_router(router)


ROUTES: Final = (
    "health", "upscalers", "upscale", "uploads", "batches", "cards", "results", "truth", "shared",
    "catch", "verify", "check", "jobs", "calibrate", "choices", "calibrations", "monitor",
    "connect",
)  # fmt: skip
"""The modules of `http.routes` with a router, imported on demand."""


def application(
    start: _Start,
    *,
    max_upload_bytes: int,
    routes: Sequence[str] = ROUTES,
    is_local: bool = False,
    is_open: bool = True,
    path_prefix: str = "",
) -> FastAPI:
    """Make the HTTP API, or these routes of it, over what `start` opens.

    is_open: whether its document says that clients need no key. path_prefix: below which a proxy
    offers it; paths are understood with it and without.
    """
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[LifespanState]:
        async with AsyncExitStack() as stack:
            yield {"trustscale": await start(stack, metrics)}

    app = _Gateway(
        metrics,
        is_local=is_local,
        is_open=is_open,
        path_prefix=path_prefix,
        title="Trustscale",
        version=__version__,
        summary="Upscale an image, and say where its colours are right, on average by a theorem.",
        description=ABOUT,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # the redirect would name the request's `Host`
        generate_unique_id_function=operation_id,
        # With multipart boundaries and small fields of a form, on top of the image itself.
        max_body_size=max_upload_bytes + 64 * 1024,
        form_limits={"max_part_size": 4096, "max_fields": _MAX_FIELDS, "max_files": 1},
    )
    problems.add_problem_handlers(app)
    add_page(app)
    for name in routes:
        router = import_module(f"trustscale_server.http.routes.{name}").router
        _include(app, router, path_prefix)
    return app


class _Gateway(FastAPI):
    """FastAPI inside our request context, which its own 413 and 500 answers get too."""

    def __init__(
        self, metrics: Metrics, *, is_local: bool, is_open: bool, path_prefix: str, **options: Any
    ) -> None:
        super().__init__(**options)
        self._metrics, self._path_prefix = metrics, path_prefix
        self._is_local, self._is_open = is_local, is_open

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = finished(super().openapi(), is_open=self._is_open)
        return self.openapi_schema

    def build_middleware_stack(self) -> ASGIApp:
        bounded = BoundedFields(super().build_middleware_stack(), _MAX_FIELDS)
        guarded = OwnSite(bounded, is_local=self._is_local)
        return RequestContext(guarded, self._metrics, self._path_prefix)


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
        _sweep(services.stores, settings, timings),
        services.canaries.run(),
        measure_throughput(services),
    ):
        await stack.enter_async_context(beside(work))
    limits = open_limits(
        settings.store,
        client_requests_per_minute=settings.client_requests_per_minute,
        client_pixels_per_minute=settings.client_pixels_per_minute,
    )
    worker = None
    if settings.gateway_runs_jobs:
        run = partial(
            services.queue.run,
            services.handlers,
            concurrency=services.concurrency,
            drain_s=timings.drain_s,
        )
        worker = await stack.enter_async_context(working(run))
    state = await State.from_services(
        services,
        stack,
        metrics,
        timings,
        worker=worker,
        client_keys=Keyring(key.get_secret_value() for key in settings.client_keys),
        admin_keys=Keyring(_admin_keys(settings)),
        limits=await stack.enter_async_context(limits),
    )
    await stack.enter_async_context(beside(_when_stopping(state)))
    return state


async def _when_stopping(state: State) -> None:
    """End soon, when the service stops, uploads that still arrive or take long to decode.

    What arrived at that moment is answered: a proxy does not send an upload twice.
    """
    await state.stopping.wait()
    for arriving in (state.bodies, state.service.context.fetching):
        arriving.end(state.timings.drain_s)
    state.service.context.decoding.end(2 * state.timings.drain_s)


def _admin_keys(settings: Settings) -> list[str]:
    if settings.admin_keys:
        return [key.get_secret_value() for key in settings.admin_keys]
    key, path = stored_admin_key(settings.data_dir)
    log.info("admin_key", path=str(path))
    return [key]


@asynccontextmanager
async def working(
    run: Callable[..., Coroutine[Any, Any, None]],
) -> AsyncIterator[asyncio.Task[None]]:
    """Run `JobQueue.run` beside the body; unfinished work goes back to the queue."""
    stop = asyncio.Event()
    worker = asyncio.create_task(run(stop=stop))
    try:
        yield worker
    finally:
        stop.set()
        await worker


async def _sweep(stores: Stores, settings: Settings, timings: Timings) -> None:
    """Remove expired results and jobs periodically."""
    clock = asyncio.get_running_loop().time
    orphans_at = clock()
    while True:
        try:
            await stores.results.sweep()
            past = await stores.jobs.archive(older_s=settings.job_details_ttl_s)
            for job in [*past, *await stores.jobs.expire(older_s=settings.job_ttl_s)]:
                await forget_files(stores.blobs, job)
            if clock() >= orphans_at:
                orphans_at = clock() + timings.orphans_s
                await remove_orphans(stores)
        except TrustscaleError as error:
            log.warning("sweep_failed", detail=error.detail)
        except Exception:
            # Without a next round, disk and database would fill up unseen.
            log.exception("sweep_failed")
        await asyncio.sleep(timings.sweep_s)
