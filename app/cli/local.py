"""The application inside the command line, with the stores and upscalers of the settings.

It is the gateway's, without the service around it: no keys, no client limits, no kept results, no
background work.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Final
from uuid import uuid4

import httpx
from starlette.types import Receive, Scope, Send

from app.api.clients import ClientLimits
from app.api.deps import TIMINGS, Keyring, State
from app.api.idempotency import Unrepeated
from app.assembly import Parts, open_parts, opened_stores
from app.calibration.local import LocalAdmin, private_stores
from app.main import ROUTES, application, working
from app.settings import Settings, load_settings
from app.stores.base import Stores
from app.system import usable_cores
from app.telemetry.logs import configure_logs
from app.telemetry.metrics import Metrics
from app.upscalers.base import AUTO
from app.upscalers.config import EmbeddedConfig
from app.upscalers.registry import UpscalerConfig
from trustscale import AsyncTrustscale

# Stands for all upscalers; no name holds a star.
ALL: Final = "*"

ACTOR: Final = "command line"
"""The actor in records and in the admin log."""

# More at once would take memory rather than save time.
_MOST_AT_ONCE: Final = 8

Checked = Callable[[int, int], None]


@asynccontextmanager
async def local(upscaler: str | None = ALL, *, many: bool = False) -> AsyncIterator[Parts]:
    """Open everything that the settings name, for a command that needs more than the HTTP API."""
    async with AsyncExitStack() as stack:
        yield await _opened(_narrowed(load_settings(), upscaler, many=many), stack)


@asynccontextmanager
async def inside(
    settings: Settings | None = None,
    *,
    upscaler: str | None = ALL,
    many: bool = False,
    on_checked: Checked | None = None,
    routes: Sequence[str] = ROUTES,
) -> AsyncIterator[AsyncTrustscale]:
    """A client of an application in this process.

    Args:
        settings: None: those of the environment.
        upscaler: the only one that the command uses, None for the default one, or those that `auto`
            chooses from. The others are not opened, so that nobody waits for them or is warned.
        many: for work on many images, where samples per hour count and not the wait for the first:
            embedded upscalers whose threads are not set make one sample per core at a time.
        on_checked: for a command that calibrates: is told (images, all images) while they are
            looked at.
        routes: those that the command uses, where the time of imports counts.
    """
    settings = _narrowed(settings or load_settings(), upscaler, many=many)
    start = partial(_start, settings, on_checked)
    app = application(start, max_upload_bytes=settings.max_upload_bytes, routes=routes)
    async with app.router.lifespan_context(app) as state:

        async def served(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "state": dict(state or {})}, receive, send)

        transport = httpx.ASGITransport(served)
        async with AsyncTrustscale("http://localhost", retries=0, transport=transport) as service:
            yield service


async def _start(
    settings: Settings, on_checked: Checked | None, stack: AsyncExitStack, metrics: Metrics
) -> State:
    stores = await opened_stores(settings, stack, metrics)
    if on_checked is not None:
        stores = private_stores(stores, settings.data_dir, stack)
    parts = await _opened(settings, stack, metrics=metrics, stores=stores)
    more: dict[str, Any] = {"service": replace(parts.service, results=None), "worker": None}
    if on_checked is not None:
        # Released when the jobs have stopped.
        held = await stack.enter_async_context(AsyncExitStack())
        # Other processes' unfinished jobs are left alone.
        run = partial(
            parts.queue.run,
            {"calibration": parts.handlers["calibration"]},
            concurrency=parts.concurrency,
            drain_s=0.0,
            unfinished=False,
        )
        more["worker"] = await stack.enter_async_context(working(run))
        more["admin"] = LocalAdmin(
            parts.upscalers,
            settings.default,
            parts.calibrations,
            parts.stores,
            parts.queue,
            data_dir=settings.data_dir,
            stack=held,
            on_checked=on_checked,
            costs=parts.admin.costs,
            auto=parts.admin.auto,
        )
    nobody = Keyring(())
    return await State.of(
        parts,
        stack,
        metrics,
        TIMINGS,
        client_keys=nobody,
        admin_keys=nobody,
        operator=ACTOR,
        limits=ClientLimits(),
        idempotency=Unrepeated(parts.stores.claims, settings.idempotency_ttl_s),
        **more,
    )


async def _opened(
    settings: Settings,
    stack: AsyncExitStack,
    *,
    metrics: Metrics | None = None,
    stores: Stores | None = None,
) -> Parts:
    configure_logs("warning", "console")
    # A manual trial is no request of the service: the monitor does not count it.
    return await open_parts(settings, stack, metrics=metrics, serves=False, stores=stores)


def _narrowed(settings: Settings, upscaler: str | None, *, many: bool) -> Settings:
    """The settings for one command: its upscalers only, and nobody to share with."""
    upscalers = tuple(settings.upscalers)
    if upscaler != ALL:
        wanted = {upscaler or settings.default}
        if upscaler == AUTO or (upscaler is None and settings.prefers_auto):
            wanted = set(settings.auto_table.values())
        # For an unknown name the error lists the others.
        upscalers = tuple(one for one in upscalers if one.name in wanted) or upscalers
    if many:
        upscalers = tuple(map(_at_once, upscalers))
    changes = {
        "upscalers": upscalers,
        # Others' jobs do not run here; a shared queue need not be reachable.
        "queue": f"memory://{uuid4().hex}",
        "max_waiting": 1_000_000,
        "request_timeout_s": settings.job_timeout_s,
        # One pair is prepared while the upscaler is fully used.
        "job_concurrency": 1 + max(getattr(one, "concurrency", None) or 1 for one in upscalers),
    }
    return settings.model_copy(update=changes)


def _at_once(config: UpscalerConfig) -> UpscalerConfig:
    chosen = {"threads", "concurrency"} & config.model_fields_set
    if chosen or not isinstance(config, EmbeddedConfig):
        return config
    return config.model_copy(update={"concurrency": min(usable_cores(), _MOST_AT_ONCE)})
