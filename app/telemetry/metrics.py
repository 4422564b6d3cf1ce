"""Prometheus metrics of one process, in a registry of its own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from app.telemetry.job_metrics import JobMetrics

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_FRACTIONS = (0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1)
_P_VALUES = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)


class Monitored(NamedTuple):
    """What the monitor knows of one upscaler under its active calibration.

    losses: `mean`, `lower`, `upper` and `alpha` of the labelled results; empty without labels.
    """

    requests: int
    log10_martingale: float
    log10_shiryaev_roberts: float
    inputs_alarm: bool
    labels: int
    log10_e_value: float
    feedback_alarm: bool
    losses: Mapping[str, float]


class Metrics:
    """Counters, histograms and gauges; names start with `trustscale_`.

    Counters and histograms are told of events. Gauges of the store and of calibrations are read
    when /metrics is asked (`app/api/gauges.py`), so they are never older than the scrape.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.work = JobMetrics(self.registry)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        labels = ("method", "route", "status")
        self._requests = Counter(
            "trustscale_requests", "HTTP requests.", labels, registry=self.registry
        )
        self._seconds = Histogram(
            "trustscale_request_seconds",
            "Time to answer an HTTP request.",
            ("method", "route"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "trustscale_requests_in_flight", "HTTP requests in progress.", registry=self.registry
        )
        self._sample_seconds = Histogram(
            "trustscale_sample_seconds",
            "Generation time per sample.",
            ("upscaler",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._trusted = Histogram(
            "trustscale_trusted_fraction",
            "Share of trusted pixels per answer.",
            ("upscaler",),
            buckets=_FRACTIONS,
            registry=self.registry,
        )
        self._typicality = Histogram(
            "trustscale_typicality",
            "Typicality p-value per answer.",
            ("upscaler",),
            buckets=_P_VALUES,
            registry=self.registry,
        )
        self._problems = Counter(
            "trustscale_problems", "Answers that were problems.", ("type",), registry=self.registry
        )
        self._calls = Counter(
            "trustscale_upstream_calls",
            "Calls to remote upscalers, every try for itself: what a provider bills.",
            ("upscaler", "outcome"),
            registry=self.registry,
        )
        self._retries = Counter(
            "trustscale_upstream_retries",
            "Calls that are tried again, by the reason of the failure.",
            ("upscaler", "reason"),
            registry=self.registry,
        )
        self._call_seconds = Histogram(
            "trustscale_upstream_call_seconds",
            "Time of one call to a remote upscaler.",
            ("upscaler",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._breaker_open = Gauge(
            "trustscale_upstream_breaker_open",
            "1 while a remote upscaler is not called because it failed too often.",
            ("upscaler",),
            registry=self.registry,
        )
        self._spent = self._gauge(
            "trustscale_upstream_calls_last_hour",
            "Calls of this process that count against the spend limit.",
            "upscaler",
        )
        self._spend_limit = self._gauge(
            "trustscale_upstream_calls_limit",
            "Calls that one process may make in an hour.",
            "upscaler",
        )
        self._canary_evidence = Gauge(
            "trustscale_canary_evidence",
            "Evidence that a model has changed since its calibration; 100 raises the alarm.",
            ("upscaler",),
            registry=self.registry,
        )
        self._canary_alarm = Gauge(
            "trustscale_canary_alarm",
            "1: the model seems to have changed since its calibration.",
            ("upscaler",),
            registry=self.registry,
        )
        self._canary_rounds = Counter(
            "trustscale_canary_rounds",
            "Rounds of canaries; failed: no answer came.",
            ("upscaler", "outcome"),
            registry=self.registry,
        )
        self._monitor_lost = Counter(
            "trustscale_monitor_lost",
            "Answered requests that the monitor could not count.",
            registry=self.registry,
        )
        self._drift = self._gauge(
            "trustscale_drift_log10_evidence",
            "Evidence that inputs differ from the calibration images, as a power of ten.",
            "upscaler",
            "group",
            "statistic",
        )
        self._feedback = self._gauge(
            "trustscale_feedback_loss",
            "Mean loss of labelled results, its confidence sequence, and their mean α.",
            "upscaler",
            "group",
            "value",
        )
        self._feedback_labels = self._gauge(
            "trustscale_feedback_labels", "Labelled results that count.", "upscaler", "group"
        )
        self._feedback_evidence = self._gauge(
            "trustscale_feedback_log10_evidence",
            "Evidence that the mean loss is above α, as a power of ten.",
            "upscaler",
            "group",
        )
        self._monitored = self._gauge(
            "trustscale_monitor_requests",
            "Requests under the active calibration that the monitor has counted.",
            "upscaler",
            "group",
        )
        self._monitor_alarm = self._gauge(
            "trustscale_monitor_alarm",
            "1: the monitor raises this alarm about the active calibration.",
            "upscaler",
            "group",
            "kind",
        )
        self._slots = self._gauge(
            "trustscale_slots", "Upscalings that hold a slot or wait for one.", "state"
        )
        self._slot_bytes = self._gauge(
            "trustscale_slot_bytes", "Memory of upscalings with a slot, and its budget.", "state"
        )
        self._most_slots = self._gauge(
            "trustscale_slots_limit", "How many may hold a slot or wait for one.", "state"
        )
        self._store_up = self._gauge("trustscale_store_up", "1: the store answers.")
        self._ready = self._gauge(
            "trustscale_ready", "1: was ready when /readyz was last asked.", "component"
        )
        self._jobs = self._gauge("trustscale_jobs", "Unfinished jobs.", "kind", "state")
        self._oldest_job = self._gauge(
            "trustscale_jobs_oldest_queued_timestamp_seconds",
            "When the job that has been queued longest was created; 0: none is queued.",
            "kind",
        )
        self._calibrated = self._gauge(
            "trustscale_calibration_active", "1: there is an active calibration.", "upscaler"
        )
        self._mismatch = self._gauge(
            "trustscale_calibration_mismatch",
            "1: the active calibration was made under another pipeline, and no mask is served.",
            "upscaler",
        )
        self._calibration_created = self._gauge(
            "trustscale_calibration_created_timestamp_seconds",
            "When the active calibration was made.",
            "upscaler",
        )
        self._calibration_pairs = self._gauge(
            "trustscale_calibration_pairs", "n of the active calibration.", "upscaler"
        )
        self._min_alpha = self._gauge(
            "trustscale_calibration_min_alpha",
            "Smallest α at which the active calibration trusts anything.",
            "upscaler",
        )
        self._default_alpha = self._gauge(
            "trustscale_calibration_default_alpha",
            "α of requests that name none.",
            "upscaler",
        )

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one HTTP request."""
        method = method if method in _METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def answer(
        self, upscaler: str, *, seconds_per_sample: float, trusted: float, typicality: float
    ) -> None:
        """Record what one upscaling answer says."""
        self._sample_seconds.labels(upscaler).observe(seconds_per_sample)
        self._trusted.labels(upscaler).observe(trusted)
        self._typicality.labels(upscaler).observe(typicality)

    def problem(self, slug: str) -> None:
        """Count one problem document."""
        self._problems.labels(slug).inc()

    def slots(
        self,
        *,
        in_flight: int,
        waiting: int,
        running: int,
        most_waiting: int,
        bytes_in_flight: int,
        budget: int | None,
    ) -> None:
        """Set how many slots are taken and awaited, how many there are, and their memory."""
        self._slots.labels("in_flight").set(in_flight)
        self._slots.labels("waiting").set(waiting)
        self._most_slots.labels("in_flight").set(running)
        self._most_slots.labels("waiting").set(most_waiting)
        self._slot_bytes.labels("in_flight").set(bytes_in_flight)
        self._slot_bytes.labels("limit").set(math.inf if budget is None else budget)

    def store_up(self, up: bool) -> None:
        """Set whether the store answers."""
        self._store_up.set(up)

    def ready(self, component: str, ready: bool) -> None:
        """Set what /readyz has found."""
        self._ready.labels(component).set(ready)

    def jobs(self, found: Iterable[tuple[str, str, datetime]]) -> None:
        """Set the depth of the queues from (kind, state, creation) of every unfinished job."""
        counts = {
            (kind, state): 0
            for kind in ("upscale", "calibration", "webhook")
            for state in ("queued", "running")
        }
        oldest = dict.fromkeys(("upscale", "calibration", "webhook"), 0.0)
        for kind, state, created in found:
            counts[kind, state] = counts.get((kind, state), 0) + 1
            if state == "queued":
                created_s = created.timestamp()
                oldest[kind] = min(oldest[kind] or created_s, created_s)
        for (kind, state), count in counts.items():
            self._jobs.labels(kind, state).set(count)
        for kind, created_s in oldest.items():
            self._oldest_job.labels(kind).set(created_s)

    def calibration(
        self,
        upscaler: str,
        *,
        created: datetime,
        pairs: int,
        min_alpha: float,
        default_alpha: float,
    ) -> None:
        """Set what the active calibration of an upscaler is like."""
        self._calibrated.labels(upscaler).set(1)
        self._calibration_created.labels(upscaler).set(created.timestamp())
        self._calibration_pairs.labels(upscaler).set(pairs)
        self._min_alpha.labels(upscaler).set(min_alpha)
        self._default_alpha.labels(upscaler).set(default_alpha)

    def no_calibration(self, upscaler: str) -> None:
        """Set that an upscaler has no active calibration."""
        self._calibrated.labels(upscaler).set(0)

    def mismatch(self, upscaler: str, found: bool) -> None:
        """Set whether the live pipeline differs from the calibrated one."""
        self._mismatch.labels(upscaler).set(found)

    def call(self, upscaler: str, seconds: float, outcome: str) -> None:
        """Count one try of a call to a remote upscaler (`app.upscalers.resilience.Observer`)."""
        self._calls.labels(upscaler, outcome).inc()
        if outcome != "cancelled":  # how long a client waited says nothing about the upstream
            self._call_seconds.labels(upscaler).observe(seconds)

    def retry(self, upscaler: str, reason: str) -> None:
        """Count a call that will be tried again."""
        self._retries.labels(upscaler, reason).inc()

    def breaker(self, upscaler: str, *, is_open: bool) -> None:
        """Show whether an upscaler is not called at all."""
        self._breaker_open.labels(upscaler).set(is_open)

    def spent(self, upscaler: str, calls: int, most: int) -> None:
        """Show the calls of the last hour, where there is a limit."""
        self._spent.labels(upscaler).set(calls)
        self._spend_limit.labels(upscaler).set(most)

    def canary_round(self, upscaler: str, outcome: str) -> None:
        """Count one round of canaries."""
        self._canary_rounds.labels(upscaler, outcome).inc()

    def canary_evidence(self, upscaler: str, evidence: float, *, alarm: bool) -> None:
        """Show how much speaks for a change of the model; 0 without canaries."""
        self._canary_evidence.labels(upscaler).set(evidence)
        self._canary_alarm.labels(upscaler).set(alarm)

    def monitor_lost(self, requests: int) -> None:
        """Count requests that the monitor could not count."""
        self._monitor_lost.inc(requests)

    def monitored(self, found: Iterable[tuple[str, str, Monitored]]) -> None:
        """Set what the monitor knows from (upscaler, group, facts); group "": all images.

        What is not found any more, such as a group of an earlier calibration, is not shown either.
        """
        gauges = (
            self._monitored,
            self._drift,
            self._monitor_alarm,
            self._feedback_labels,
            self._feedback_evidence,
            self._feedback,
        )
        for gauge in gauges:
            gauge.clear()
        for upscaler, group, known in found:
            key = (upscaler, group)
            self._monitored.labels(*key).set(known.requests)
            self._drift.labels(*key, "martingale").set(known.log10_martingale)
            self._drift.labels(*key, "shiryaev_roberts").set(known.log10_shiryaev_roberts)
            self._monitor_alarm.labels(*key, "inputs").set(known.inputs_alarm)
            self._monitor_alarm.labels(*key, "feedback").set(known.feedback_alarm)
            self._feedback_labels.labels(*key).set(known.labels)
            self._feedback_evidence.labels(*key).set(known.log10_e_value)
            for name, loss in known.losses.items():
                self._feedback.labels(*key, name).set(loss)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)

    def _gauge(self, name: str, documentation: str, *labels: str) -> Gauge:
        return Gauge(name, documentation, labels, registry=self.registry)
