"""Wires the parts together for the gateway, the job worker and the command line."""

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Final

import structlog

from trustscale_server.bootstrap.settings import Settings
from trustscale_server.calibrating.admin import CalibrationAdmin
from trustscale_server.calibrating.costs import Costs, Tariff
from trustscale_server.calibrating.create import CalibrationCreator
from trustscale_server.calibrating.job import CalibrationHandler
from trustscale_server.calibration.active import Calibrations
from trustscale_server.calibration.canary_store import CanaryStore
from trustscale_server.calibration.install import install_shipped
from trustscale_server.images.sandbox import client
from trustscale_server.jobs.handler import FanOut, Handler
from trustscale_server.jobs.queue import JobQueue
from trustscale_server.jobs.webhooks import WebhookHandler
from trustscale_server.monitoring.canaries import CanaryWatch, policies
from trustscale_server.monitoring.gauges import Gauges
from trustscale_server.platform.errors import TrustscaleError, UpscalerError
from trustscale_server.platform.fair import AdmissionController
from trustscale_server.platform.memory import memory_limit
from trustscale_server.platform.tasks import side_by_side
from trustscale_server.platform.telemetry.metrics import Metrics
from trustscale_server.sampling.spec import pipeline_differences
from trustscale_server.sampling.throughput import Throughput
from trustscale_server.serving.batch import Batches
from trustscale_server.serving.context import ServiceContext
from trustscale_server.serving.finders import FaceFinder, LineFinder
from trustscale_server.serving.job import UpscaleHandler
from trustscale_server.serving.service import UpscaleService
from trustscale_server.serving.submit import UpscaleSubmitter
from trustscale_server.stores.job_status import JobKind
from trustscale_server.stores.opened import Stores, open_stores
from trustscale_server.stores.spool import check_temporary
from trustscale_server.stores.uploads import forget_uploads
from trustscale_server.upscalers.base import Upscaler
from trustscale_server.upscalers.config import RemoteConfig
from trustscale_server.upscalers.registry import UpscalerConfig, build_upscaler

Build = Callable[[UpscalerConfig, Mapping[str, str]], Upscaler]

CANARY_INTERVAL_S: Final = 86400.0
"""How often remote models are checked for a silent change."""

_REACHED_WITHIN_S: Final = 10.0
"""How long a start waits for remote upscalers."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything that runs requests and jobs; `open_parts` explains `serves`.

    startup: seconds of each phase of the start.
    """

    settings: Settings
    stores: Stores
    upscalers: Mapping[str, Upscaler]
    calibrations: Calibrations
    service: UpscaleService
    queue: JobQueue
    submitter: UpscaleSubmitter
    creator: CalibrationCreator
    admin: CalibrationAdmin
    canaries: CanaryWatch
    gauges: Gauges
    startup: Mapping[str, float]
    serves: bool = True

    @property
    def handlers(self) -> Mapping[JobKind, Handler | FanOut]:
        """The handler of each kind of job."""
        return {
            "upscale": UpscaleHandler(self.service, self.stores.blobs),
            "calibration": CalibrationHandler(
                self.upscalers,
                self.calibrations,
                self.stores.blobs,
                self.stores.canary_states,
                self.canaries.policies,
                keeps_pictures=self.serves,
                throughput=self.service.context.throughput,
                path_prefix=self.settings.path_prefix,
            ),
            "webhook": WebhookHandler(self.stores.jobs, self.settings.webhooks),
        }

    @property
    def concurrency(self) -> Mapping[JobKind, int]:
        """Jobs, or pairs of calibrations, that one process works on at once."""
        return {
            "upscale": self.service.context.slots.capacity,
            "calibration": self.settings.job_concurrency,
            "webhook": 32,  # they mostly wait for their receivers
        }


async def open_parts(
    settings: Settings,
    stack: AsyncExitStack,
    build: Build | None = None,
    metrics: Metrics | None = None,
    *,
    serves: bool = True,
    stores: Stores | None = None,
) -> Services:
    """Open everything; the stack closes it in reverse order.

    Args:
        settings: of this process.
        stack: closes what is opened.
        build: makes the upscalers; None: `build_upscaler`.
        metrics: of answers, jobs, remote calls and canaries.
        serves: whether pictures of calibrations are kept for the pages.
        stores: None: those that the settings name.

    Raises:
        ConfigError: a setting, folder, database or model that cannot be used.
    """
    check_temporary(os.environ.get("TMPDIR", ""))
    client.start_decoders()
    metrics = metrics or Metrics()
    startup: dict[str, float] = {}
    with _phase("opening stores", startup):
        stores = stores or await opened_stores(settings, stack, metrics)
    build = build or functools.partial(
        build_upscaler,
        metrics=metrics,
        calls=stores.calls,
        precision=settings.precision,
    )
    with _phase("loading models", startup):
        upscalers = await _open_upscalers(settings, stack, build)
    calibrations = Calibrations(stores.calibrations)
    with _phase("reading calibrations", startup):
        await install_shipped(calibrations, upscalers.values())
    canaries = _canaries(settings, stores, upscalers, calibrations, metrics)
    context = _context(settings, stores, upscalers, calibrations, canaries, serves=serves)
    queue = await stack.enter_async_context(job_queue(settings, stores, metrics))
    return Services(
        settings=settings,
        stores=stores,
        upscalers=upscalers,
        calibrations=calibrations,
        service=UpscaleService(context, metrics),
        queue=queue,
        submitter=UpscaleSubmitter(stores, queue, context.drawing, settings.max_queued_jobs),
        creator=CalibrationCreator(
            upscalers=upscalers,
            default=settings.default,
            calibrations=calibrations,
            stores=stores,
            queue=queue,
            costs=_costs(settings, context.throughput, upscalers, canaries),
        ),
        admin=CalibrationAdmin(upscalers, calibrations, stores, queue),
        canaries=canaries,
        gauges=Gauges(
            metrics=metrics,
            slots=context.slots,
            stores=stores,
            upscalers=upscalers,
            calibrations=calibrations,
        ),
        startup=startup,
        serves=serves,
    )


def _canaries(
    settings: Settings,
    stores: Stores,
    upscalers: Mapping[str, Upscaler],
    calibrations: Calibrations,
    metrics: Metrics,
) -> CanaryWatch:
    """What watches remote upscalers for changes."""
    return CanaryWatch(
        upscalers,
        policies(settings.upscalers),
        calibrations,
        CanaryStore(stores.blobs, stores.canary_states),
        metrics,
        interval_s=CANARY_INTERVAL_S,
        request_timeout_s=settings.request_timeout_s,
    )


def _context(
    settings: Settings,
    stores: Stores,
    upscalers: Mapping[str, Upscaler],
    calibrations: Calibrations,
    canaries: CanaryWatch,
    *,
    serves: bool,
) -> ServiceContext:
    """What every request uses."""
    return ServiceContext(
        upscalers=upscalers,
        default=settings.default,
        calibrations=calibrations,
        results=stores.results,
        slots=_slots(settings, serves=serves),
        limits=settings.limits,
        request_timeout_s=settings.request_timeout_s,
        canaries=canaries if canaries.policies else None,
        batches=Batches(stores.results),
        credentials=settings.signer,
        find_faces=FaceFinder(settings.precision),
        find_lines=LineFinder(settings.precision),
        faces=settings.faces,
        letters=settings.letters,
        active_routing=settings.active_routing,
        asks_first=settings.asks_first,
        prefers_auto=settings.prefers_auto,
        path_prefix=settings.path_prefix,
        throughput=Throughput(settings.data_dir / "throughput.json"),
    )


def _slots(settings: Settings, *, serves: bool) -> AdmissionController:
    """The slots and the memory that requests and upscaling jobs wait for."""
    remote = [config for config in settings.upscalers if isinstance(config, RemoteConfig)]
    return AdmissionController(
        settings.max_in_flight,
        settings.max_waiting,
        _budget(settings),
        # Jobs that run beside requests leave them a slot.
        reserved=int(serves and settings.gateway_runs_jobs),
        own={config.name: config.slots for config in remote},
    )


@contextmanager
def _phase(name: str, took: dict[str, float]) -> Iterator[None]:
    """Say in the log that a phase of the start begins; its seconds come into `took`."""
    log.info("starting", phase=name)
    began = time.monotonic()
    yield
    took[name] = round(time.monotonic() - began, 3)


async def measure_throughput(services: Services) -> None:
    """Time the models inside this process; the pace of others follows from their answers."""
    for upscaler in services.upscalers.values():
        if upscaler.capabilities.by_tiles:
            with suppress(UpscalerError):
                await services.service.context.throughput.measure(upscaler)


async def report_calibrations(services: Services) -> None:
    """Log the upscalers that cannot serve a mask, and why."""
    for upscaler in services.upscalers.values():
        try:
            active = await services.calibrations.active(upscaler.name)
            differing = pipeline_differences(active.pipeline, upscaler)
        except TrustscaleError as error:
            log.warning("not_calibrated", upscaler=upscaler.name, detail=error.detail)
            continue
        if differing:
            log.error("calibration_mismatch", upscaler=upscaler.name, differences=differing)


def _costs(
    settings: Settings, throughput: Throughput, upscalers: Iterable[str], canaries: CanaryWatch
) -> Costs:
    """What estimates the calls, time and price of calibrations."""
    tariffs = {}
    for name in upscalers:
        entry = settings.upscaler(name)
        max_calls = entry.max_calls_per_hour if isinstance(entry, RemoteConfig) else None
        tariffs[name] = Tariff(settings.price_per_call(name), max_calls)
    return Costs(throughput, tariffs, settings.job_concurrency, canaries.policies)


def _budget(settings: Settings) -> int | None:
    """Bytes for requests: by default half, since models, uploads and jobs need some too."""
    if settings.max_in_flight_bytes is not None:
        return settings.max_in_flight_bytes
    limit = memory_limit()
    return None if limit is None else limit // 2


def job_queue(settings: Settings, stores: Stores, metrics: Metrics | None = None) -> JobQueue:
    """Return the queue, not yet connected. Raises ConfigError for a URL that can be none."""
    return JobQueue(
        settings.queue,
        stores.jobs,
        metrics=metrics,
        on_end=functools.partial(forget_uploads, stores.blobs),
    )


async def opened_stores(settings: Settings, stack: AsyncExitStack, metrics: Metrics) -> Stores:
    """Open and check the stores that the settings name; the stack closes them.

    Raises ConfigError.
    """
    stores = open_stores(
        settings.store,
        settings.data_dir,
        result_ttl_s=settings.result_ttl_s,
        max_result_bytes=settings.max_result_bytes,
        blobs_url=settings.blobs,
        removed=functools.partial(metrics.count, "results_removed"),
    )
    stack.push_async_callback(stores.close)
    await stores.probe()
    if weakness := await stores.weakness():
        log.error("store_may_lose_data", detail=weakness)
    return stores


async def _open_upscalers(
    settings: Settings, stack: AsyncExitStack, build: Build
) -> dict[str, Upscaler]:
    """All configured upscalers by name; unreachable ones are kept, with a warning."""
    upscalers: dict[str, Upscaler] = {}
    for config in settings.upscalers:
        upscalers[config.name] = build(config, os.environ)
        stack.push_async_callback(upscalers[config.name].close)
    await side_by_side(_reach(name, upscaler) for name, upscaler in upscalers.items())
    return upscalers


async def _reach(name: str, upscaler: Upscaler) -> None:
    """Learn what an upscaler is; one that does not answer soon is asked again when it is used."""
    try:
        async with asyncio.timeout(_REACHED_WITHIN_S):
            await upscaler.probe()
    except TimeoutError:
        detail = f"It did not answer within {_REACHED_WITHIN_S:g} seconds."
        log.warning("upscaler_unavailable", upscaler=name, detail=detail)
    except TrustscaleError as error:
        log.warning("upscaler_unavailable", upscaler=name, detail=error.detail)
