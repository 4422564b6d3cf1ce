"""What a process counts and measures, for Prometheus.

The tables list all, exported with the prefix `trustscale_`. Counters and histograms count events.
Most gauges are read by /metrics (`monitoring/gauges.py`).
"""

from __future__ import annotations

from typing import Final, TypeAlias, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from trustscale_server import __version__

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_FRACTIONS = (0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1)
_LOSSES = (0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2)
_JOB_SECONDS = (1, 2.5, 5, 10, 30, 60, 150, 300, 600, 1800, 3600, 4 * 3600, 12 * 3600, 48 * 3600)
_TASK_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

_Row: TypeAlias = tuple[str, tuple[str, ...]]
_Metric = TypeVar("_Metric", Counter, Histogram, Gauge)

# Name: what it counts, and its labels.
COUNTERS: Final[dict[str, _Row]] = {
    "requests": ("HTTP requests.", ("method", "route", "status")),
    "error_responses": ("Answers that were problems.", ("type",)),
    "upstream_calls": (
        "Calls to remote upscalers, every try for itself: what a provider bills.",
        ("upscaler", "outcome"),
    ),
    "upstream_price": (
        "What those calls cost by `price_per_call`, in its currency; without a price they count 0.",
        ("upscaler",),
    ),
    "upstream_retries": (
        "Calls that are tried again, by the reason of the failure.",
        ("upscaler", "reason"),
    ),
    "answers": (
        "Answers by promise (yes, or no) and by the class of the upload, which may be empty.",
        ("promised", "upscaler", "class"),
    ),
    "reviews": (
        "Pictures that may go out without a look: accepted, and others: needs_look.",
        ("upscaler", "outcome"),
    ),
    "canary_rounds": ("Rounds of canaries; failed: no answer came.", ("upscaler", "outcome")),
    "truth_alpha": (
        "The sum of α of the masks whose loss is known: what `truth_loss` sums to at most.",
        ("upscaler", "calibration"),
    ),
    "results_removed": (
        "Results that were removed: by age, or for space before their time was over.",
        ("reason",),
    ),
    "job_attempts": ("Attempts at jobs that have ended in this process.", ("kind", "outcome")),
    "job_lost_leases": (
        "Attempts that began because the one before ended without a word.",
        ("kind",),
    ),
    "calibration_pairs": (
        "Calibration pairs that this process has worked on, every delivery for itself.",
        ("outcome",),
    ),
}

# Name: what is measured, its labels, and its buckets.
HISTOGRAMS: Final[dict[str, tuple[*_Row, tuple[float, ...]]]] = {
    "request_seconds": ("Time until an HTTP answer begins.", ("method", "route"), _SECONDS),
    "slot_wait_seconds": ("Time that an upscaling waited for its slot.", (), _SECONDS),
    "sample_seconds": ("Generation time per sample.", ("upscaler",), _SECONDS),
    "trusted_fraction": ("Share of trusted pixels per answer.", ("upscaler",), _FRACTIONS),
    "truth_loss": (
        "Losses of masks of which the truth was sent.",
        ("upscaler", "calibration"),
        _LOSSES,
    ),
    "upstream_call_seconds": ("Time of one call to a remote upscaler.", ("upscaler",), _SECONDS),
    "job_wait_seconds": (
        "Time from the creation of a job to its first start, counted at its end.",
        ("kind",),
        _JOB_SECONDS,
    ),
    "job_seconds": ("Time from the creation of a job to its end.", ("kind", "state"), _JOB_SECONDS),
    "job_task_seconds": ("Time of one calibration pair that was measured.", (), _TASK_SECONDS),
}

# Name: what it shows, and its labels.
GAUGES: Final[dict[str, _Row]] = {
    "build_info": ("1, with the release that runs.", ("version",)),
    "requests_in_flight": ("HTTP requests whose answer has not begun.", ()),
    "upstream_breaker_open": (
        "1 while a remote upscaler is not called because it failed too often.",
        ("upscaler",),
    ),
    "upstream_calls_in_flight": (
        "Calls that run, wait for their turn, or wait for an unavailable upscaler.",
        ("upscaler",),
    ),
    "upstream_calls_last_hour": (
        "Calls of all processes that count against the spend limit.",
        ("upscaler",),
    ),
    "upstream_calls_limit": ("Calls that all processes may make in an hour.", ("upscaler",)),
    "canary_evidence": (
        "Evidence that a model has changed since its calibration; 100 raises the alarm.",
        ("upscaler",),
    ),
    "canary_alarm": ("1: the model seems to have changed since its calibration.", ("upscaler",)),
    "slots": ("Upscalings that hold a slot or wait for one.", ("state",)),
    "slot_bytes": ("Memory of upscalings with a slot, and its budget.", ("state",)),
    "slots_limit": ("How many may hold a slot or wait for one.", ("state",)),
    "store_up": ("1: the store can be read and written.", ()),
    "store_persists": ("0: Redis has no append-only file, cannot write it, or may evict.", ()),
    "store_bytes": (
        "Memory of Redis and its maxmemory, or size of the database and what the disk can hold.",
        ("state",),
    ),
    "result_bytes": ("Size of all results, and `max_result_bytes`.", ("state",)),
    "ready": ("1: the component can serve.", ("component",)),
    "jobs": ("Unfinished jobs.", ("kind", "state")),
    "jobs_oldest_queued_timestamp_seconds": (
        "When the job that has been queued longest was created; 0: none is queued.",
        ("kind",),
    ),
    "calibration_active": ("1: there is an active calibration.", ("upscaler",)),
    "calibration_mismatch": (
        "1: the active calibration was made under another pipeline, and no mask is served.",
        ("upscaler",),
    ),
    "calibration_created_timestamp_seconds": (
        "When the active calibration was made.",
        ("upscaler",),
    ),
    "calibration_scenes": ("n of the active calibration.", ("upscaler",)),
    "calibration_min_alpha": (
        "Smallest α at which the active calibration trusts anything.",
        ("upscaler",),
    ),
    "calibration_default_alpha": ("α of requests that name none.", ("upscaler",)),
}


class Metrics:
    """The metrics of the tables, by name and label values."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._counters = {
            name: Counter(f"trustscale_{name}", text, labels, registry=registry)
            for name, (text, labels) in COUNTERS.items()
        }
        self._histograms = {
            name: Histogram(f"trustscale_{name}", text, labels, buckets=buckets, registry=registry)
            for name, (text, labels, buckets) in HISTOGRAMS.items()
        }
        self._gauges = {
            name: Gauge(f"trustscale_{name}", text, labels, registry=registry)
            for name, (text, labels) in GAUGES.items()
        }
        for kind in ("upscale", "calibration", "webhook"):
            self.count("job_lost_leases", kind, by=0)  # or the first one would be no increase
        self.count("results_removed", "space", by=0)
        self.set("build_info", 1, __version__)

    def count(self, name: str, *labels: str, by: float = 1) -> None:
        """Add to a counter."""
        _labelled(self._counters[name], labels).inc(by)

    def observe(self, name: str, value: float, *labels: str) -> None:
        """Add a value to a histogram."""
        _labelled(self._histograms[name], labels).observe(value)

    def set(self, name: str, value: float, *labels: str) -> None:
        """Set a gauge."""
        _labelled(self._gauges[name], labels).set(value)

    def entered(self, by: int) -> None:
        """Change the number of requests in progress."""
        self._gauges["requests_in_flight"].inc(by)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one HTTP request."""
        method = method if method in _METHODS else "other"
        self.count("requests", method, route, str(status))
        self.observe("request_seconds", seconds, method, route)

    def text(self) -> bytes:
        """Return the exposition format."""
        return generate_latest(self.registry)


def _labelled(metric: _Metric, labels: tuple[str, ...]) -> _Metric:
    return metric.labels(*labels) if labels else metric
