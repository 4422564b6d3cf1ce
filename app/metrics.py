"""Prometheus metrics of one process, in a registry of its own."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_FRACTIONS = (0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1)
_P_VALUES = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)


class Metrics:
    """Counters, histograms and gauges; names start with `trustscale_`.

    Counters and histograms are told of events. Gauges of the store and of calibrations are read
    when /metrics is asked (`app/api/health.py`), so they are never older than the scrape.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
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
        self._canary_evidence = Gauge(
            "trustscale_canary_evidence",
            "Evidence that a model has changed since its calibration; 100 raises the alarm.",
            ("upscaler",),
            registry=self.registry,
        )
        self._canary_rounds = Counter(
            "trustscale_canary_rounds",
            "Rounds of canaries; failed: no answer came.",
            ("upscaler", "outcome"),
            registry=self.registry,
        )
        self._slots = self._gauge(
            "trustscale_slots", "Upscalings that hold a slot or wait for one.", "state"
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

    def slots(self, *, in_flight: int, waiting: int, running: int, most_waiting: int) -> None:
        """Set how many slots are taken and awaited, and how many there are."""
        self._slots.labels("in_flight").set(in_flight)
        self._slots.labels("waiting").set(waiting)
        self._most_slots.labels("in_flight").set(running)
        self._most_slots.labels("waiting").set(most_waiting)

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
            for kind in ("upscale", "calibration")
            for state in ("queued", "running")
        }
        oldest = dict.fromkeys(("upscale", "calibration"), 0.0)
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

    def canary_round(self, upscaler: str, outcome: str) -> None:
        """Count one round of canaries."""
        self._canary_rounds.labels(upscaler, outcome).inc()

    def canary_evidence(self, upscaler: str, evidence: float) -> None:
        """Show how much speaks for a change of the model."""
        self._canary_evidence.labels(upscaler).set(evidence)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)

    def _gauge(self, name: str, documentation: str, *labels: str) -> Gauge:
        return Gauge(name, documentation, labels, registry=self.registry)
