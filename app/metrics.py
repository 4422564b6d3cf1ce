"""Prometheus metrics of one process, in a registry of its own."""

from __future__ import annotations

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
    """Counters and histograms; names start with `trustscale_`."""

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

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
