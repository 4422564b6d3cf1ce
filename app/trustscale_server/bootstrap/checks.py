"""What is checked before a process opens its services."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

import structlog

from trustscale_server.bootstrap.assembly import job_queue, opened_stores
from trustscale_server.bootstrap.settings import Settings
from trustscale_server.jobs.queue import check_queue_url
from trustscale_server.platform.errors import ConfigError
from trustscale_server.platform.telemetry.metrics import Metrics
from trustscale_server.platform.telemetry.traces import exporting
from trustscale_server.stores.blobs import check_blobs_url
from trustscale_server.stores.files import held
from trustscale_server.stores.opened import check_store_url
from trustscale_server.stores.spool import check_temporary
from trustscale_server.upscalers.config import RemoteConfig
from trustscale_server.upscalers.registry import build_upscaler
from trustscale_server.upscalers.remote.upstream import missing_token

log = structlog.get_logger(__name__)


async def check_settings(settings: Settings) -> list[str]:
    """Try everything that needs no network, no database and no folder of ours; returns warnings.

    Raises:
        ConfigError: naming every mistake.
    """
    mistakes: list[str] = []

    @contextmanager
    def collected() -> Iterator[None]:
        try:
            yield
        except ConfigError as error:
            mistakes.append(error.detail.rstrip("."))

    with collected():
        check_temporary(os.environ.get("TMPDIR", ""))
    with collected():
        check_store_url(settings.store, settings.data_dir)
    with collected():
        check_blobs_url(settings.blobs)
    with collected():
        check_queue_url(settings.queue)
    with collected():
        _check_processes(settings)
    with collected():
        _ = settings.signer
    for config in settings.upscalers:
        with collected():
            await build_upscaler(config, os.environ, precision=settings.precision).close()
    if mistakes:
        raise ConfigError("; ".join(mistakes) + ".")
    remote = [config for config in settings.upscalers if isinstance(config, RemoteConfig)]
    tokens = [missing for config in remote if (missing := missing_token(config, os.environ))]
    return [*tokens, *filter(None, [settings.not_offered])]


async def check_start(settings: Settings) -> None:
    """Check everything that a server needs, before it runs. Raises ConfigError."""
    for warning in await check_settings(settings):
        log.warning("setting", detail=warning)
    async with AsyncExitStack() as stack:
        stack.enter_context(single_process_lock(settings))
        stack.enter_context(exporting("trustscale-gateway"))
        job_queue(settings, await opened_stores(settings, stack, Metrics()))


@contextmanager
def single_process_lock(settings: Settings) -> Iterator[None]:
    """Hold a lock on a data folder whose jobs are queued in memory, for one gateway at a time.

    Raises:
        ConfigError: the store is shared, or another gateway runs on the data folder.
    """
    if not (settings.gateway_runs_jobs and settings.queue.startswith("memory:")):
        yield
        return
    if settings.store.startswith(("redis:", "rediss:")):
        raise ConfigError(
            "queue=memory:// with a store on Redis would run the jobs of every gateway in each of "
            "them: set TRUSTSCALE_QUEUE to redis://… and start trustscale jobs."
        )
    explanation = (
        f"Another gateway runs on the data folder {settings.data_dir}. Give this one a folder of "
        "its own, or share a Redis: TRUSTSCALE_STORE and TRUSTSCALE_QUEUE."
    )
    with held(settings.data_dir / "gateway.lock", explanation):
        yield


def _check_processes(settings: Settings) -> None:
    processes = os.environ.get("WEB_CONCURRENCY", "1")
    if not (processes.isdecimal() and processes.isascii()):
        raise ConfigError("WEB_CONCURRENCY must be a whole number, or not be set.")
    if settings.queue.startswith("memory:") and int(processes) > 1:
        raise ConfigError("queue=memory:// serves one process only; WEB_CONCURRENCY must be 1.")
