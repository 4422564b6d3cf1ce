"""The worker's Prometheus metrics."""

import math
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from workers.models.engine import DeviceMemory


class WorkerMetrics:
    """All metrics of one worker; `memory` is called at every scrape."""

    def __init__(self, memory: Callable[[], DeviceMemory]) -> None:
        self._registry = CollectorRegistry()
        common: Any = {"namespace": "trustscale_worker", "registry": self._registry}
        self.waiting = Gauge("queue_requests", "Requests waiting.", **common)
        self.requests = Counter("requests", "Inference requests by status.", ["status"], **common)
        self.samples = Counter("samples", "Samples made.", **common)
        self.batch = Histogram(
            "batch_samples",
            "Samples asked for in one call of the model.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
            **common,
        )
        self.seconds = Histogram(
            "sample_seconds",
            "Seconds per sample of one call of the model.",
            buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300),
            **common,
        )
        used = Gauge(
            "device_memory_used_bytes",
            "Memory in use on the device, by everyone.",
            ["device"],
            **common,
        )
        total = Gauge("device_memory_total_bytes", "Memory of the device.", ["device"], **common)
        device = memory().device
        used.labels(device).set_function(lambda: _number(memory().used))
        total.labels(device).set_function(lambda: _number(memory().total))

    def text(self) -> bytes:
        return generate_latest(self._registry)


def _number(value: int | None) -> float:
    return math.nan if value is None else value
