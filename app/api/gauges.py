"""Gauges of a process, read when it is asked for its metrics, so never older than the scrape."""

from __future__ import annotations

from contextlib import suppress

from app.errors import BadCalibration, NotFound, UpscalerUnavailable
from app.monitor.report import metrics_of
from app.monitor.watch import Monitor
from app.sampling.pipeline import differences
from app.serving.service import UpscaleService
from app.stores.base import Stores, StoreUnavailable
from app.telemetry.metrics import Metrics, Monitored
from app.upscalers.base import Upscaler
from app.upscalers.resilience import ResilientUpscaler


async def observe(
    metrics: Metrics, service: UpscaleService, monitor: Monitor | None, stores: Stores
) -> None:
    """Set the gauges of what is not an event: slots, jobs, calibrations, health of upstreams.

    Upscalers are not called for that: a scrape has no effect on anything.
    """
    slots = service.slots
    metrics.slots(
        in_flight=slots.in_flight,
        waiting=slots.waiting,
        running=slots.running,
        most_waiting=slots.most_waiting,
        bytes_in_flight=slots.bytes_in_flight,
        budget=slots.budget,
    )
    for upscaler in service.upscalers.values():
        if isinstance(upscaler, ResilientUpscaler):
            health = upscaler.health
            metrics.breaker(upscaler.name, is_open=health.breaker_open)
            if health.max_calls_per_hour is not None and health.calls_last_hour is not None:
                metrics.spent(upscaler.name, health.calls_last_hour, health.max_calls_per_hour)
    try:
        jobs = await stores.jobs.unfinished()
        monitored = []
        for upscaler in service.upscalers.values():
            monitored += await _observe_calibration(metrics, service, monitor, upscaler)
    except StoreUnavailable:
        metrics.store_up(False)  # the other gauges keep what was last known
        return
    metrics.store_up(True)
    metrics.monitored(monitored)
    metrics.jobs((job.kind, job.state.value, job.created_at) for job in jobs)


async def _observe_calibration(
    metrics: Metrics, service: UpscaleService, monitor: Monitor | None, upscaler: Upscaler
) -> list[tuple[str, str, Monitored]]:
    """Set the gauges of an active calibration; what the monitor knows under it."""
    active = await service.calibrations.active_id(upscaler.name)
    if active is None:
        metrics.no_calibration(upscaler.name)
        return []
    try:
        calibration = await service.calibrations.get(active)
    except (BadCalibration, NotFound):  # damaged: nothing can be served from it
        metrics.no_calibration(upscaler.name)
        return []
    metrics.calibration(
        upscaler.name,
        created=calibration.manifest.created_at,
        pairs=calibration.n,
        min_alpha=calibration.curve.min_alpha,
        default_alpha=calibration.manifest.default_alpha,
    )
    with suppress(UpscalerUnavailable):  # not reached yet, so what it is is not known
        metrics.mismatch(upscaler.name, bool(differences(calibration.pipeline, upscaler)))
    if monitor is None:
        return []
    parts = await monitor.parts(calibration)
    return [
        (upscaler.name, part.group or "", metrics_of(part.calibration, part.state))
        for part in parts
    ]
