"""What a process that runs jobs tells Prometheus about them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

_SECONDS = (1, 2.5, 5, 10, 30, 60, 150, 300, 600, 1800, 3600, 4 * 3600, 12 * 3600, 48 * 3600)
_UNIT_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class JobMetrics:
    """Counters and histograms of attempts and units (`app.jobs.observer.JobObserver`)."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._attempts = Counter(
            "trustscale_job_attempts",
            "Attempts at jobs that have ended in this process.",
            ("kind", "outcome"),
            registry=registry,
        )
        self._lost = Counter(
            "trustscale_job_lost_leases",
            "Attempts that began because the one before ended without a word.",
            ("kind",),
            registry=registry,
        )
        self._seconds = Histogram(
            "trustscale_job_seconds",
            "Time from the creation of a job to its end.",
            ("kind", "state"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._units = Counter(
            "trustscale_job_units",
            "Calibration pairs that this process has worked on, every delivery for itself.",
            ("outcome",),
            registry=registry,
        )
        self._unit_seconds = Histogram(
            "trustscale_job_unit_seconds",
            "Time of one calibration pair that was measured.",
            buckets=_UNIT_SECONDS,
            registry=registry,
        )
        for kind in ("upscale", "calibration", "webhook"):
            self._lost.labels(kind)  # an increase from nothing is no increase

    def attempt(self, kind: str, outcome: str) -> None:
        """Count the end of an attempt."""
        self._attempts.labels(kind, outcome).inc()

    def lost_lease(self, kind: str) -> None:
        """Count an attempt that takes over from one that died."""
        self._lost.labels(kind).inc()

    def ended(self, kind: str, state: str, seconds: float) -> None:
        """Record how long a job took in all."""
        self._seconds.labels(kind, state).observe(seconds)

    def unit(self, outcome: str, seconds: float) -> None:
        """Count one pair."""
        self._units.labels(outcome).inc()
        if outcome == "ok":
            self._unit_seconds.observe(seconds)
