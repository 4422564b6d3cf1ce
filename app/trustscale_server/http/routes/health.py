"""Liveness, readiness and metrics.

Gauges are read when /metrics is asked, so they are never older than the scrape.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final, get_args

import structlog
from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field

from trustscale_server.bootstrap.assembly import Services
from trustscale_server.calibrating.documents import Difference
from trustscale_server.calibration.calibration import Calibration
from trustscale_server.http.state import State, StateDep
from trustscale_server.monitoring.state import MonitorState
from trustscale_server.platform.errors import (
    BadCalibration,
    NotFound,
    TrustscaleError,
    UpscalerUnavailable,
)
from trustscale_server.platform.fair import AdmissionController
from trustscale_server.platform.telemetry.signals import Metrics
from trustscale_server.sampling.spec import pipeline_differences
from trustscale_server.stores.base import JobKind, StoreUnavailable
from trustscale_server.upscalers.base import Upscaler
from trustscale_server.upscalers.resilience.upscaler import ResilientUpscaler

_LN10: Final = math.log(10)

log = structlog.get_logger(__name__)

router = APIRouter(tags=["health"])


class ServicePart(BaseModel):
    """Whether a part can serve; for an upscaler, with which calibration."""

    ready: bool
    detail: str | None = None
    calibration: str | None = None
    differences: list[Difference] | None = None
    canary: dict[str, Any] | None = None


class Readiness(BaseModel):
    """Ready if all components are."""

    ready: bool
    components: dict[str, ServicePart]
    startup: dict[str, float] = Field(
        default_factory=dict, description="Seconds that each phase of the start took."
    )


@router.get("/healthz", response_class=PlainTextResponse)
async def get_health() -> str:
    """Say that the process lives."""
    return "ok\n"


@router.get(
    "/readyz", responses={503: {"description": "A component is not ready.", "model": Readiness}}
)
async def get_readiness(state: StateDep, response: Response) -> Readiness:
    """Say whether every component can serve.

    The answer is 200 if so, else 503; the body names each component's state.
    """
    components = await _components(state)
    ready = all(component.ready for component in components.values())
    response.status_code = 200 if ready else 503
    return Readiness(ready=ready, components=components, startup=dict(state.startup))


async def _components(state: State) -> dict[str, ServicePart]:
    """The state of each component, which the gauges then show, too."""
    checks = {"store": _store(state), "jobs": _jobs(state)} | {
        f"upscaler:{upscaler.name}": _upscaler(state, upscaler)
        for upscaler in state.service.context.upscalers.values()
    }
    answers = await asyncio.gather(
        *(_in_time(answer, state.timings.answer_s) for answer in checks.values())
    )
    components = dict(zip(checks, answers, strict=True))
    for name, component in components.items():
        state.metrics.set("ready", component.ready, name)
    return components


@router.get("/metrics", response_class=PlainTextResponse)
async def get_metrics(state: StateDep) -> Response:
    """Read the metrics in the Prometheus text format."""
    await asyncio.gather(update_gauges(state.metrics, state), _components(state))
    return Response(state.metrics.text(), media_type=CONTENT_TYPE_LATEST)


async def _in_time(answer: Coroutine[Any, Any, ServicePart], seconds: float) -> ServicePart:
    """The state of a component; one that does not answer in time is not ready."""
    try:
        async with asyncio.timeout(seconds):
            return await answer
    except TimeoutError:
        return ServicePart(ready=False, detail=f"no answer within {seconds:g} seconds")
    except TrustscaleError as error:
        return ServicePart(ready=False, detail=error.detail)
    except Exception:
        # Of one component: metrics and the others' states are still wanted.
        log.exception("not_ready")
        return ServicePart(ready=False, detail="an unexpected error, which the log has")


async def _store(state: State) -> ServicePart:
    await state.stores.probe()
    return ServicePart(ready=True, detail=await state.stores.weakness())


async def _jobs(state: State) -> ServicePart:
    if state.worker is not None and state.worker.done():
        return ServicePart(ready=False, detail="the job worker has stopped")
    await state.queue.probe()
    return ServicePart(ready=True)


async def _upscaler(state: State, upscaler: Upscaler) -> ServicePart:
    """Check whether an upscaler can be reached and its active calibration belongs to it."""
    await state.probes.probe(upscaler)
    active = await state.calibrations.active_id(upscaler.name)
    if active is None:
        return ServicePart(ready=True, detail="no active calibration")
    mismatch: list[dict[str, Any]] = []
    for calibration in (await state.calibrations.order(upscaler.name)).calibrations:
        settings = calibration.manifest.provenance.settings
        differs = pipeline_differences(calibration.pipeline, upscaler, settings)
        if not differs:  # requests are answered from this one
            mismatch = []
            break
        mismatch = mismatch or differs
    canary = await state.canaries.report(upscaler.name, active)
    if mismatch:
        return ServicePart(
            ready=False,
            calibration=active,
            detail="calibration-mismatch",
            differences=[Difference(**difference) for difference in mismatch],
        )
    return ServicePart(**{"ready": True, "calibration": active, **canary})


async def update_gauges(metrics: Metrics, services: Services) -> None:
    """Set the gauges of slots, jobs, calibrations and upstreams."""
    _observe_slots(metrics, services.service.context.slots)
    try:
        for upscaler in services.upscalers.values():
            if not isinstance(upscaler, ResilientUpscaler):
                continue
            metrics.set("upstream_breaker_open", upscaler.breaker_open, upscaler.name)
            if (spent := await upscaler.spent()) is not None:
                metrics.set("upstream_calls_last_hour", spent[0], upscaler.name)
                metrics.set("upstream_calls_limit", spent[1], upscaler.name)
        await services.stores.results.probe()
        metrics.set("store_persists", await services.stores.weakness() is None)
        spaces = {
            "store_bytes": await services.stores.space(),
            "result_bytes": await services.stores.results.space(),
        }
        jobs = {kind: await services.stores.jobs.waiting(kind) for kind in get_args(JobKind)}
        monitored = []
        for upscaler in services.upscalers.values():
            calibration = await _observe_calibration(metrics, services, upscaler)
            if calibration is not None:
                known = await services.monitor.known(calibration.id)
                monitored.append((upscaler.name, known))
    except StoreUnavailable:
        metrics.set("store_up", 0)  # the other gauges keep their last values
        return
    metrics.set("store_up", 1)
    for name, known in monitored:
        _observe_monitor(metrics, name, known)
    for name, room in spaces.items():
        metrics.set(name, room.used, "used")
        metrics.set(name, room.limit, "limit")
    for kind, waiting in jobs.items():
        oldest = 0 if waiting.oldest is None else waiting.oldest.timestamp()
        metrics.set("jobs", waiting.queued, kind, "queued")
        metrics.set("jobs", waiting.running, kind, "running")
        metrics.set("jobs_oldest_queued_timestamp_seconds", oldest, kind)


def _observe_slots(metrics: Metrics, slots: AdmissionController) -> None:
    metrics.set("slots", slots.in_flight, "in_flight")
    metrics.set("slots", slots.waiting, "waiting")
    metrics.set("slots_limit", slots.capacity, "in_flight")
    metrics.set("slots_limit", slots.max_waiting, "waiting")
    metrics.set("slot_bytes", slots.bytes_in_flight, "in_flight")
    most = slots.max_in_flight_bytes
    metrics.set("slot_bytes", math.inf if most is None else most, "limit")


async def _observe_calibration(
    metrics: Metrics, services: Services, upscaler: Upscaler
) -> Calibration | None:
    """Set the gauges of the active calibration, and return it; None: none can be read."""
    name = upscaler.name
    active = await services.calibrations.active_id(name)
    calibration = None
    if active is not None:
        with suppress(BadCalibration, NotFound):  # damaged
            calibration = await services.calibrations.get(active)
    metrics.set("calibration_active", calibration is not None, name)
    if calibration is None:
        return None
    manifest = calibration.manifest
    metrics.set("calibration_created_timestamp_seconds", manifest.created_at.timestamp(), name)
    metrics.set("calibration_scenes", calibration.n, name)
    metrics.set("calibration_min_alpha", calibration.everything.min_alpha, name)
    metrics.set("calibration_default_alpha", manifest.default_alpha, name)
    with suppress(UpscalerUnavailable):  # never reached yet
        mismatch = bool(pipeline_differences(calibration.pipeline, upscaler))
        metrics.set("calibration_mismatch", mismatch, name)
    return calibration


def _observe_monitor(metrics: Metrics, upscaler: str, state: MonitorState) -> None:
    pictures, labels = state.pictures, state.labels
    metrics.set("monitor_requests", state.counted, upscaler)
    metrics.set("inputs_log10_evidence", pictures.log_capital / _LN10, upscaler)
    metrics.set("monitor_alarm", state.inputs_alarm_since is not None, upscaler, "inputs")
    metrics.set("monitor_alarm", state.labels_alarm_since is not None, upscaler, "feedback")
    metrics.set("feedback_labels", labels.n, upscaler)
    metrics.set("feedback_log10_evidence", labels.log_e_value / _LN10, upscaler)
    mean, alpha = labels.mean_loss or 0.0, labels.total_alpha / max(1, labels.n)
    metrics.set("feedback_loss", mean, upscaler, "mean")
    metrics.set("feedback_loss", alpha, upscaler, "alpha")
