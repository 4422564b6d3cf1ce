"""Gauges of a process, read when it is asked for its metrics, so never older than the scrape."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import suppress
from typing import Final, get_args

from app.assembly import Parts
from app.calibration.record import Calibration
from app.conformal import feedback
from app.errors import BadCalibration, NotFound, UpscalerUnavailable
from app.sampling.pipeline import differences
from app.serving.admission import Slots
from app.stores.base import JobKind, JobStatus, StoreUnavailable
from app.telemetry.metrics import Metrics
from app.upscalers.base import Upscaler
from app.upscalers.resilience import HealthFacts
from app.watch.monitor import Part

_LN10: Final = math.log(10)

# What the monitor knows. A group of an earlier calibration is not shown any more.
_MONITORED: Final = (
    "monitor_requests",
    "drift_log10_evidence",
    "monitor_alarm",
    "feedback_labels",
    "feedback_log10_evidence",
    "feedback_loss",
)


async def observe(metrics: Metrics, parts: Parts) -> None:
    """Set the gauges of what is not an event: slots, jobs, calibrations, health of upstreams.

    Upscalers are not called for that: a scrape has no effect on anything.
    """
    _observe_slots(metrics, parts.service.slots)
    try:
        for upscaler in parts.upscalers.values():
            if (health := await HealthFacts.of(upscaler)) is None:
                continue
            metrics.set("upstream_breaker_open", health.breaker_open, upscaler.name)
            if health.max_calls_per_hour is not None and health.calls_last_hour is not None:
                metrics.set("upstream_calls_last_hour", health.calls_last_hour, upscaler.name)
                metrics.set("upstream_calls_limit", health.max_calls_per_hour, upscaler.name)
        metrics.set("store_persists", await parts.stores.persists())
        jobs = await parts.stores.jobs.unfinished()
        monitored = []
        for upscaler in parts.upscalers.values():
            calibration = await _observe_calibration(metrics, parts, upscaler)
            if calibration is not None:
                watched = await parts.monitor.parts(calibration)
                monitored += [(upscaler.name, part) for part in watched]
    except StoreUnavailable:
        metrics.set("store_up", 0)  # the other gauges keep what was last known
        return
    metrics.set("store_up", 1)
    metrics.clear(*_MONITORED)
    for name, part in monitored:
        _observe_monitor(metrics, name, part)
    observe_jobs(metrics, jobs)


def _observe_slots(metrics: Metrics, slots: Slots) -> None:
    metrics.set("slots", slots.in_flight, "in_flight")
    metrics.set("slots", slots.waiting, "waiting")
    metrics.set("slots_limit", slots.running, "in_flight")
    metrics.set("slots_limit", slots.most_waiting, "waiting")
    metrics.set("slot_bytes", slots.bytes_in_flight, "in_flight")
    metrics.set("slot_bytes", math.inf if slots.budget is None else slots.budget, "limit")


def observe_jobs(metrics: Metrics, unfinished: list[JobStatus]) -> None:
    """Set the depth of the queues from all jobs that are queued or running."""
    counts = Counter((job.kind, job.state.value) for job in unfinished)
    for kind in get_args(JobKind):
        for state in ("queued", "running"):
            metrics.set("jobs", counts[kind, state], kind, state)
        queued = [
            job.created_at.timestamp()
            for job in unfinished
            if (job.kind, job.state.value) == (kind, "queued")
        ]
        metrics.set("jobs_oldest_queued_timestamp_seconds", min(queued, default=0), kind)


async def _observe_calibration(
    metrics: Metrics, parts: Parts, upscaler: Upscaler
) -> Calibration | None:
    """Set the gauges of an active calibration, if there is one that can be read."""
    name = upscaler.name
    active = await parts.calibrations.active_id(name)
    calibration = None
    if active is not None:
        with suppress(BadCalibration, NotFound):  # damaged: nothing can be served from it
            calibration = await parts.calibrations.get(active)
    metrics.set("calibration_active", calibration is not None, name)
    if calibration is None:
        return None
    manifest = calibration.manifest
    metrics.set("calibration_created_timestamp_seconds", manifest.created_at.timestamp(), name)
    metrics.set("calibration_pairs", calibration.n, name)
    metrics.set("calibration_min_alpha", calibration.min_alpha, name)
    metrics.set("calibration_default_alpha", manifest.default_alpha, name)
    with suppress(UpscalerUnavailable):  # not reached yet, so what it is is not known
        mismatch = bool(differences(calibration.pipeline, upscaler))
        metrics.set("calibration_mismatch", mismatch, name)
    return calibration


def _observe_monitor(metrics: Metrics, upscaler: str, part: Part) -> None:
    """Set what the monitor knows; group "": images of no group and no class."""
    state, key = part.state, (upscaler, part.group or "")
    known, bound = state.feedback, part.calibration.bound
    metrics.set("monitor_requests", state.counted, *key)
    metrics.set("drift_log10_evidence", state.drift.log_s / _LN10, *key, "martingale")
    metrics.set("drift_log10_evidence", state.drift.log_v / _LN10, *key, "shiryaev_roberts")
    metrics.set("monitor_alarm", state.inputs_alarm_since is not None, *key, "inputs")
    metrics.set("monitor_alarm", state.feedback_alarm_since is not None, *key, "feedback")
    metrics.set("feedback_labels", known.n, *key)
    metrics.set("feedback_log10_evidence", known.log_e_value / _LN10, *key)
    if known.n:
        interval = feedback.interval(known, bound)
        metrics.set("feedback_loss", known.mean_loss, *key, "mean")
        metrics.set("feedback_loss", interval.lower, *key, "lower")
        metrics.set("feedback_loss", interval.upper, *key, "upper")
        metrics.set("feedback_loss", feedback.mean_alpha(known, bound), *key, "alpha")
